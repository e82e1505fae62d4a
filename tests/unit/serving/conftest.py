"""Tiny random bases, adapters and a tokenizer on disk, and plain transformers + PEFT to compare with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tailorbird.protocol.generation import GenerationChunk, GenerationRequest
from tailorbird.serving import server
from tailorbird.serving.__main__ import Options, build
from tailorbird.serving.tickets import EngineStopped, Output, PromptScores, Ticket

VOCAB = 300
END = 2
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": END,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.3,  # wide, so that greedy choices are far from ties and adapters matter
}


def _tokenizer() -> Tokenizer:
    """Byte-level, so any id sequence is bytes and characters are split over tokens. It has fewer than VOCAB."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the leaf is stitched into a nest", "a needle and a thread, a needle"] * 4, trainer)
    return tokenizer


def _config(family: str) -> Any:
    import transformers

    if family == "llama":
        return transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True)
    if family == "llama3":
        scaling = {
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
        return transformers.LlamaConfig(**SHAPE, head_dim=16, attention_bias=True, rope_parameters=scaling)
    if family == "qwen2":
        return transformers.Qwen2Config(**SHAPE)
    if family == "qwen3":
        return transformers.Qwen3Config(**SHAPE, head_dim=16)
    if family == "mistral":
        return transformers.MistralConfig(**SHAPE, sliding_window=9)
    if family == "phi3":
        return transformers.Phi3Config(**SHAPE)
    assert family == "gemma2"
    return transformers.Gemma2Config(**SHAPE, head_dim=16, sliding_window=9)


def _write_adapter(folder: Path, base: Path, seed: int, rank: int, modules: Sequence[str]) -> None:
    """PEFT's own writer makes the folder; B is random, or the adapter would change nothing."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(modules), task_type="CAUSAL_LM")
    )
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    wrapped.save_pretrained(str(folder))


@dataclass(frozen=True)
class Bench:
    """A base folder with adapters beside it."""

    base: Path
    adapters: dict[str, Path]

    def plain(self, adapter: str | None) -> Any:
        """The base, or the base under one adapter, as transformers and PEFT compute it."""
        import peft
        from transformers import AutoModelForCausalLM

        # Eager: SDPA silently forgets that Gemma 2 caps its attention scores.
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32, attn_implementation="eager").eval()
        return model if adapter is None else peft.PeftModel.from_pretrained(model, str(self.adapters[adapter])).eval()

    def logprobs(self, adapter: str | None, tokens: list[int]) -> torch.Tensor:
        """Natural-log probabilities [len(tokens), vocab] after each token."""
        with torch.no_grad():
            return self.plain(adapter)(torch.tensor([tokens])).logits[0].float().log_softmax(-1)

    def greedy(self, adapter: str | None, prompts: Sequence[list[int]], count: int) -> list[list[int]]:
        """The likeliest continuation of each prompt alone, without a cache, `count` tokens or up to the end token."""
        model = self.plain(adapter)
        found = []
        for prompt in prompts:
            tokens = list(prompt)
            with torch.no_grad():
                while len(tokens) < len(prompt) + count and (len(tokens) == len(prompt) or tokens[-1] != END):
                    tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
            found.append(tokens[len(prompt) :])
        return found


@pytest.fixture(scope="session")
def make_bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """bench(family): made once a session, three adapters of different ranks and modules each."""
    made: dict[str, Bench] = {}

    def make(family: str) -> Bench:
        if family not in made:
            from transformers import AutoModelForCausalLM

            root = tmp_path_factory.mktemp(family)
            base = root / "base"
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(_config(family))
            for name, parameter in model.named_parameters():
                if name.endswith(("norm.weight", "bias")):  # ones and zeros would hide a forgotten one
                    torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
            model.save_pretrained(base)
            _tokenizer().save(str(base / "tokenizer.json"))
            (base / "generation_config.json").write_text(json.dumps({"eos_token_id": END}))
            fused = family == "phi3"
            attention = ["qkv_proj", "o_proj"] if fused else ["q_proj", "k_proj", "v_proj", "o_proj"]
            mlp = ["gate_up_proj", "down_proj"] if fused else ["gate_proj", "up_proj", "down_proj"]
            plans = {"red": (4, attention + mlp), "green": (8, attention + mlp), "blue": (2, [attention[0], mlp[-1]])}
            adapters = {}
            for seed, (name, (rank, modules)) in enumerate(plans.items()):
                adapters[name] = root / name
                _write_adapter(adapters[name], base, seed, rank, modules)
            made[family] = Bench(base, adapters)
        return made[family]

    return make


@pytest.fixture(scope="session")
def llama(make_bench: Callable[[str], Bench]) -> Bench:
    return make_bench("llama")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return _tokenizer()


class Listener:
    """A sink that keeps what it hears; `wait` returns when every choice has finished or the engine stopped."""

    def __init__(self, choices: int) -> None:
        self.heard: list[Output] = []
        self._left = choices
        self._news = threading.Condition()

    def __call__(self, output: Output) -> None:
        with self._news:
            self.heard.append(output)
            if isinstance(output, EngineStopped):
                self._left = 0
            elif isinstance(output, GenerationChunk) and output.finish_reason is not None:
                self._left -= 1
            self._news.notify_all()

    def wait(self) -> Listener:
        with self._news:
            assert self._news.wait_for(lambda: self._left == 0, timeout=120), "the engine did not finish"
        return self

    def wait_for_chunks(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: len(self.chunks()) >= count, timeout=120), "the engine went quiet"

    def chunks(self, index: int | None = None) -> list[GenerationChunk]:
        found = [output for output in self.heard if isinstance(output, GenerationChunk)]
        return found if index is None else [chunk for chunk in found if chunk.index == index]

    def tokens(self, index: int = 0) -> list[int]:
        return [token for chunk in self.chunks(index) for token in chunk.token_ids]

    def text(self, index: int = 0) -> str:
        return "".join(chunk.text for chunk in self.chunks(index))

    def reason(self, index: int = 0) -> str | None:
        return self.chunks(index)[-1].finish_reason

    def scores(self) -> list[float | None]:
        (found,) = [output for output in self.heard if isinstance(output, PromptScores)]
        return [None if score is None else score.logprob for score in found.scores]


class Workbench:
    """A running engine, without HTTP."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.api = build(Options(bench.base, "base", threads=1, **options))
        self.engine = self.api.engine
        for name, folder in bench.adapters.items():
            self.api.registry.load(name, str(folder))
        self.engine.start()

    def submit(self, request: GenerationRequest) -> tuple[Ticket, Listener]:
        listener = Listener(request.n)
        adapter = None if request.model == "base" else self.api.registry.get(request.model)
        assert adapter is not None or request.model == "base"
        grammar = None if request.structure is None else self.api.compiler.compile(request.structure).result(60)
        return self.engine.submit(request, adapter, listener, grammar), listener

    def ask(self, *requests: GenerationRequest) -> list[Listener]:
        """Submits all at once, so that they share their steps, and waits for all."""
        return [listener.wait() for listener in [self.submit(request)[1] for request in requests]]


@pytest.fixture
def start_engine() -> Iterator[Callable[..., Workbench]]:
    """start_engine(bench, max_batch=..., ...): stopped at the end of the test."""
    started: list[Workbench] = []

    def start(bench: Bench, **options: Any) -> Workbench:
        started.append(Workbench(bench, **options))
        return started[-1]

    yield start
    for workbench in started:
        assert workbench.engine.stop(10)


class Live:
    """The server in a thread of the test process."""

    def __init__(self, base: Path) -> None:
        self.api = build(Options(base, "base", threads=1, max_adapters=2))
        listener = server.listen("127.0.0.1", 0)
        self._server = server.uvicorn.Server(
            server.uvicorn.Config(self.api.app(), loop="asyncio", http="h11", log_level="warning")
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30)
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def live(llama: Bench) -> Iterator[Live]:
    live = Live(llama.base)
    yield live
    live.stop()


@pytest.fixture
def client(live: Live, llama: Bench) -> Iterator[httpx.Client]:
    body = {"lora_name": "red", "lora_path": str(llama.adapters["red"])}
    assert live.client.post("/v1/load_lora_adapter", json=body).status_code == 200
    yield live.client
    for model in live.api.registry.loaded():
        live.api.registry.unload(model.name)
