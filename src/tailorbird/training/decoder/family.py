"""Takes a stock transformers model of the Llama family apart into the layers of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tailorbird.lm.lora import LoraLinear, lora_layers
from tailorbird.training.decoder.attention import STRETCH
from tailorbird.training.decoder.layer import Heads, Layer
from tailorbird.training.decoder.linear import Linear
from tailorbird.training.decoder.norms import Angles, Gate, Norm
from tailorbird.training.decoder.tree import Forest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FAMILY = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "GemmaForCausalLM",
    "Phi3ForCausalLM",
}
# Numbers of the logits that exist at a time, in float32: enough rows of a large vocabulary for a product at full speed.
LOGITS_AT_ONCE = 1 << 24
# Angles that a position alone gives. The others (dynamic, longrope) change with the length of the sequence.
_ROPE_TYPES = {"default", "linear", "llama3", "yarn"}
_SILU = {"silu", "swish"}
_TANH_GELU = {"gelu_pytorch_tanh", "gelu_new"}


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model of the family: its layers, and what comes before and after them. The stock model stays usable."""

    heads: Heads
    layers: Sequence[Layer]
    norm: Norm
    head: Tensor  # [V, hidden]
    _embedding: nn.Module
    _rotary: nn.Module
    _scale: float

    @classmethod
    def of(cls, model: PreTrainedModel, *, longest: int) -> Decoder | None:
        """None when this package would not compute the model exactly, for examples of up to `longest` tokens."""
        if reason_against_trees(model, longest=longest):
            return None
        config = cast(Any, model.config)
        trunk = cast(Any, model).model
        head = cast(Any, model.get_output_embeddings())
        features = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        heads = Heads(config.num_attention_heads, config.num_key_value_heads, features)
        activation = getattr(config, "hidden_activation", None) or config.hidden_act
        gate = Gate(tanh_gelu=activation in _TANH_GELU)
        return cls(
            heads=heads,
            layers=[_layer(stock, heads, gate) for stock in trunk.layers],
            norm=_norm(trunk.norm),
            head=head.weight.detach(),
            _embedding=trunk.embed_tokens,
            _rotary=trunk.rotary_emb,
            _scale=features**-0.5,
        )

    @property
    def device(self) -> torch.device:
        return self.head.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.dtype

    @property
    def bytes_per_token(self) -> int:
        """What one token takes from its forward pass to its backward."""
        return sum(layer.numbers_per_token for layer in self.layers) * self.head.element_size()

    @property
    def bytes_per_token_recomputed(self) -> int:
        """The same when a layer's memory is made again for its gradient: its input, its keys and its values."""
        numbers = self.head.shape[1] + 2 * self.heads.kv * self.heads.features
        return len(self.layers) * numbers * self.head.element_size()

    def passing_bytes(self, tokens: int, targets: int) -> int:
        """What a pass of `tokens` takes for a moment: a layer's gradients, scores, and logits of some of its targets.

        An allocator keeps what one of them leaves and the next cannot use, so they are added up.
        """
        size = self.head.element_size()
        widest = max(linear.outputs for layer in self.layers for linear in layer.linears)
        hidden = self.head.shape[1]
        layer = tokens * (4 * widest + 6 * hidden) * size
        scores = 4 * self.heads.count * min(STRETCH, tokens) * tokens * size
        logits = 4 * min(LOGITS_AT_ONCE, targets * self.head.shape[0])
        if size < 4:  # norms in float32, logits in both, and the head packed anew for each of its two products
            layer += tokens * 8 * hidden * 4
            logits += logits + 2 * self.head.numel() * size
        return layer + scores + logits

    def operations(self, forest: Forest) -> float:
        """Floating-point operations one training step over `forest` needs: the base's gradient by its weights, and
        whatever is computed twice, is not among them.

        Forward 2 and backward 2 by each number of a frozen matrix, 6 by each of the adapter, and 12 by each feature of
        each pair of a query and a key.
        """
        frozen = sum(linear.size for layer in self.layers for linear in layer.linears)
        adapter = sum(linear.adapter_size for layer in self.layers for linear in layer.linears)
        seen, work = 0, list(forest.roots)
        while work:
            node = work.pop()
            length = len(node.tokens)
            seen += length * node.start + length * (length + 1) // 2
            work += node.children
        attention = 12.0 * len(self.layers) * self.heads.count * self.heads.features * seen
        return (4.0 * frozen + 6.0 * adapter) * forest.tokens + 4.0 * self.head.numel() * forest.count + attention

    def refresh(self) -> None:
        """Takes over the adapter's values of this moment; needed after each change of them."""
        for layer in self.layers:
            layer.refresh()

    def forget(self) -> None:
        """Lets go of those values; a run that waits for its turn holds its adapter once."""
        for layer in self.layers:
            layer.forget()

    def embed(self, tokens: Tensor) -> Tensor:
        """[T] to [T, hidden]."""
        return self._embedding(tokens)

    def angles(self, positions: Tensor) -> tuple[Angles, Angles]:
        """Of keys and of queries at `positions` [T]; the latter carry the scale of the scores."""
        like = self.head[:1, :1].float()
        cos, sin = (side[0, :, None, : self.heads.features // 2] for side in self._rotary(like, positions[None]))
        angles = Angles(cos.contiguous(), sin.contiguous())
        return angles, angles.times(self._scale)


def reason_against_trees(model: PreTrainedModel, *, longest: int) -> str | None:
    """Why this package would not compute the model exactly, for up to `longest` tokens; None when it would."""
    if type(model).__name__ not in _FAMILY:
        return f"{type(model).__name__} runs through its own code"
    head = cast(Any, model.get_output_embeddings())
    if not isinstance(head, nn.Linear) or head.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        return "its output head has a bias"
    if _outside(model, cast(Any, model).model.layers):
        return "its adapter also sits outside the layers"
    return _hindrance(cast(Any, model.config), longest)


def _hindrance(config: Any, longest: int) -> str | None:
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):  # Qwen writes a window and switches it off
        window = None
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    rope = cast(dict[str, Any], config.rope_parameters)
    hindrances = {
        "its attention looks back over a window shorter than the examples may be": (
            window is not None and window < longest
        ),
        f"its activation is {activation}": activation not in _SILU | _TANH_GELU,
        "its rotary positions depend on the length of the sequence": (
            rope.get("rope_type", "default") not in _ROPE_TYPES
        ),
        "its rotary positions cover a part of each head": rope.get("partial_rotary_factor", 1.0) != 1.0,
        "its base is quantized": bool(getattr(config, "quantization_config", None)),
        "its config asks for dropout": any(getattr(config, name, 0.0) for name in ("embd_pdrop", "resid_pdrop")),
    }
    return next((reason for reason, holds in hindrances.items() if holds), None)


def _outside(model: nn.Module, layers: nn.Module) -> bool:
    """Whether an adapter sits anywhere but on the layers' linears."""
    inside = set(lora_layers(layers).values())
    return any(layer not in inside for layer in lora_layers(model).values())


def _layer(stock: Any, heads: Heads, gate: Gate) -> Layer:
    attention, mlp = stock.self_attn, stock.mlp
    fused = hasattr(attention, "qkv_proj")
    qkv = [attention.qkv_proj] if fused else [attention.q_proj, attention.k_proj, attention.v_proj]
    both = [mlp.gate_up_proj] if fused else [mlp.gate_proj, mlp.up_proj]
    head_norms = None
    if hasattr(attention, "q_norm"):
        head_norms = (_norm(attention.q_norm), _norm(attention.k_norm))
    return Layer(
        heads,
        (_norm(stock.input_layernorm), _norm(stock.post_attention_layernorm)),
        head_norms,
        (
            Linear.merged(cast(list[LoraLinear | nn.Linear], qkv)),
            Linear.merged([attention.o_proj]),
            Linear.merged(both),
            Linear.merged([mlp.down_proj]),
        ),
        gate,
    )


def _norm(stock: Any) -> Norm:
    weight = stock.weight.detach().float()
    if type(stock).__name__ == "GemmaRMSNorm":  # stores the distance from 1
        return Norm(weight + 1, stock.eps)
    return Norm(weight, stock.variance_epsilon)
