"""The network being pre-trained: a Llama written out for batches of documents on a CPU.

The weights carry the names and shapes of transformers' ``LlamaForCausalLM``; a test holds the two forwards together.
What differs is the work: tokens of all documents lie in one (N, hidden) matrix, so that everything but attention is one
large GEMM without padding, and attention runs per document length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MATRICES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip

LONG = 600
"""Above this length the CPU's flash attention beats two batched GEMMs and a softmax (backward included)."""


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    key_heads: int = 2
    head: int = 64
    inner: int = 640
    positions: int = 2048
    theta: float = 10000.0
    epsilon: float = 1e-5

    def config(self) -> dict[str, Any]:
        """The same as a transformers config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.head,
            "hidden_act": "silu",
            "max_position_embeddings": self.positions,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.theta,
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "bos_token_id": None,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "torch_dtype": "bfloat16",
        }

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Each matrix of a layer as (out, in)."""
        wide, narrow = self.heads * self.head, self.key_heads * self.head
        rows = (wide, narrow, narrow, self.hidden, self.inner, self.inner, self.hidden)
        columns = (self.hidden, self.hidden, self.hidden, wide, self.hidden, self.hidden, self.inner)
        return {name: (out, into) for name, out, into in zip(MATRICES, rows, columns, strict=True)}


def initial(shape: Shape, seed: int) -> dict[str, Tensor]:
    """Fresh float32 weights under their transformers names; the way out of each block starts at zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = {"model.embed_tokens.weight": torch.randn(shape.vocabulary, shape.hidden, generator=generator) * 0.02}
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        for name, (out, into) in shape.sizes().items():
            matrix = torch.randn(out, into, generator=generator) * into**-0.5
            if name.endswith(("o_proj", "down_proj")):
                matrix.zero_()
            weights[f"{prefix}{name}.weight"] = matrix
        weights[prefix + "input_layernorm.weight"] = torch.ones(shape.hidden)
        weights[prefix + "post_attention_layernorm.weight"] = torch.ones(shape.hidden)
    weights["model.norm.weight"] = torch.ones(shape.hidden)
    return weights


def rotation(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position, (positions, head) each, as transformers' Llama computes them."""
    frequency = shape.theta ** (-torch.arange(0, shape.head, 2, dtype=torch.float32) / shape.head)
    angle = torch.arange(shape.positions, dtype=torch.float32)[:, None] * frequency[None, :]
    angle = torch.cat((angle, angle), dim=1)
    return angle.cos().bfloat16(), angle.sin().bfloat16()


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return (wide * weight).to(x.dtype)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    swapped = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos[:, None, :] + swapped * sin[:, None, :]


def _before_attention(
    x: Tensor, norm: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, epsilon: float, heads: int, key_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, hidden) into rotated queries (N, heads, head), keys and values (N, key_heads, head)."""
    projected = F.linear(_norm(x, norm, epsilon), qkv).view(x.shape[0], heads + 2 * key_heads, -1)
    q, k, v = projected.split((heads, key_heads, key_heads), dim=1)
    return _turned(q, cos, sin), _turned(k, cos, sin), v


def _after_attention(
    x: Tensor, attended: Tensor, out: Tensor, norm: Tensor, gate_up: Tensor, down: Tensor, epsilon: float
) -> Tensor:
    x = x + F.linear(attended, out)
    gate, up = F.linear(_norm(x, norm, epsilon), gate_up).chunk(2, dim=-1)
    return x + F.linear(F.silu(gate) * up, down)


def _weighted_loss(x: Tensor, norm: Tensor, head: Tensor, targets: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """The weighted sum of the cross entropies of (N,) targets."""
    logits = F.linear(_norm(x, norm, epsilon), head).float()
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum()


class Network:
    """The forward pass to the loss; ``fast`` compiles the parts around attention for one fixed number of tokens."""

    def __init__(self, shape: Shape, fast: bool) -> None:
        self.shape = shape
        self.cos, self.sin = rotation(shape)
        wrap: Callable[[Any], Any] = torch.compile(dynamic=False) if fast else lambda function: function
        self._before = wrap(_before_attention)
        self._after = wrap(_after_attention)
        self._loss = wrap(_weighted_loss)

    def loss(self, weights: dict[str, Tensor], batch: Batch) -> Tensor:
        """The weighted sum of losses of a batch.

        ``weights`` are float32 and get the gradients; the arithmetic is bfloat16 with float32 norms and loss.
        """
        shape = self.shape
        low = {name: value.bfloat16() if value.ndim == 2 else value for name, value in weights.items()}
        embedding = low["model.embed_tokens.weight"]
        x = F.embedding(batch.tokens, embedding)
        cos, sin = self.cos[batch.positions], self.sin[batch.positions]
        for layer in range(shape.layers):
            prefix = f"model.layers.{layer}."
            attention = [low[f"{prefix}self_attn.{name}_proj.weight"] for name in "qkv"]
            gate_up = torch.cat((low[prefix + "mlp.gate_proj.weight"], low[prefix + "mlp.up_proj.weight"]))
            q, k, v = self._before(
                x,
                low[prefix + "input_layernorm.weight"],
                torch.cat(attention),
                cos,
                sin,
                shape.epsilon,
                shape.heads,
                shape.key_heads,
            )
            x = self._after(
                x,
                self._attended(q, k, v, batch),
                low[prefix + "self_attn.o_proj.weight"],
                low[prefix + "post_attention_layernorm.weight"],
                gate_up,
                low[prefix + "mlp.down_proj.weight"],
                shape.epsilon,
            )
        return self._loss(x, low["model.norm.weight"], embedding, batch.targets, batch.weights, shape.epsilon)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, batch: Batch) -> Tensor:
        """Causal attention inside each row; (N, heads * head)."""
        rows, length = batch.rows, batch.length
        shape = self.shape
        used, filling = rows * length, q.shape[0] - rows * length
        group = shape.heads // shape.key_heads

        def arranged(t: Tensor, repeat: int) -> Tensor:
            t = t[:used].view(rows, length, -1, shape.head).transpose(1, 2)  # (rows, heads, length, head)
            return t.repeat_interleave(repeat, dim=1) if repeat > 1 else t

        q, k, v = arranged(q, 1), arranged(k, group), arranged(v, group)
        if length > LONG:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            mask = torch.full((length, length), -1e4, dtype=q.dtype).triu(1)
            shape_of_scores = (rows * shape.heads, length, shape.head)
            q, k, v = q.reshape(shape_of_scores), k.reshape(shape_of_scores), v.reshape(shape_of_scores)
            scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=shape.head**-0.5)
            out = torch.bmm(scores.softmax(-1), v).view(rows, shape.heads, length, shape.head)
        out = out.transpose(1, 2).reshape(used, shape.heads * shape.head)
        return F.pad(out, (0, 0, 0, filling)) if filling else out


@dataclass(frozen=True)
class Batch:
    """Documents of about one length: the first ``rows * length`` of N tokens are rows, the rest is filling."""

    rows: int
    length: int
    tokens: Tensor  # (N,)
    positions: Tensor  # (N,)
    targets: Tensor  # (N,)
    weights: Tensor  # (N,) float32; 0 where nothing is to be learned
    real: int
    """Tokens of documents among the N."""
