"""The engine's tokens and log-probabilities against transformers + PEFT computing each request alone."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tailorbird.protocol.generation import GenerationRequest
from tailorbird.serving.forward import Decoder
from tailorbird.serving.stock import StockModel
from tailorbird.serving.weights import read_shape

OWN = ["llama", "llama3", "qwen2", "qwen3", "mistral"]
STOCK = ["phi3", "gemma2"]
MODELS = ("base", "red", "green", "blue")


def prompts(count: int, longest: int = 40) -> list[list[int]]:
    draw = random.Random(7)
    return [[draw.randrange(3, 300) for _ in range(draw.randrange(1, longest))] for _ in range(count)]


def greedy(model: str, prompt: list[int], count: int, **more: Any) -> GenerationRequest:
    return GenerationRequest(model=model, prompt=prompt, max_tokens=count, temperature=0.0, **more)


@pytest.mark.parametrize("family", OWN + STOCK)
def test_a_batch_of_many_adapters_and_the_base_generates_what_each_would_alone(
    family: str, make_bench: Callable[[str], Any], start_engine: Callable[..., Any]
) -> None:
    bench = make_bench(family)
    engine = start_engine(bench)
    asked = {model: prompts(3) for model in MODELS}
    requests = [greedy(model, prompt, 12) for i in range(3) for model, prompt in ((m, asked[m][i]) for m in MODELS)]
    answers = engine.ask(*requests)
    for model in MODELS:
        expected = bench.greedy(None if model == "base" else model, asked[model], 12)
        got = [a.tokens() for r, a in zip(requests, answers, strict=True) if r.model == model]
        assert got == expected, model


@pytest.mark.parametrize("family", OWN + STOCK)
def test_prompt_scores_equal_a_plain_forward(
    family: str, make_bench: Callable[[str], Any], start_engine: Callable[..., Any]
) -> None:
    bench = make_bench(family)
    engine = start_engine(bench, step_tokens=16)  # the prompt comes in pieces
    prompt = prompts(1, 90)[0] * 3
    for model in ("base", "green"):
        (answer,) = engine.ask(greedy(model, prompt, 1, score_prompt=True))
        plain = bench.logprobs(None if model == "base" else model, prompt)
        expected = [plain[i, token].item() for i, token in enumerate(prompt[1:])]
        assert answer.scores()[0] is None
        assert answer.scores()[1:] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("family", "kind"), [*((f, Decoder) for f in OWN), *((f, StockModel) for f in STOCK)])
def test_each_family_runs_on_the_forward_meant_for_it(
    family: str, kind: type, make_bench: Callable[[str], Any], start_engine: Callable[..., Any]
) -> None:
    assert type(start_engine(make_bench(family)).api.model) is kind


def test_an_adapter_changes_the_answer(llama: Any) -> None:
    prompt = prompts(1)
    answers = [llama.greedy(adapter, prompt, 12) for adapter in (None, "red", "green", "blue")]
    assert len({str(answer) for answer in answers}) == 4, "the comparisons above would prove nothing"


def test_bfloat16_stays_near_float32(llama: Any, start_engine: Callable[..., Any]) -> None:
    prompt = prompts(1, 90)[0]
    narrow = start_engine(llama, dtype="bfloat16").ask(greedy("red", prompt, 1, score_prompt=True))[0].scores()
    wide = start_engine(llama).ask(greedy("red", prompt, 1, score_prompt=True))[0].scores()
    assert narrow[1:] != wide[1:]
    # 8 bits of mantissa over logits of about 10 in a tiny wide-initialised model: a few tenths are its own rounding.
    assert narrow[1:] == pytest.approx(wide[1:], abs=0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["GemmaForCausalLM"]},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        {"quantization_config": {"quant_method": "gptq"}},
    ],
)
def test_what_the_own_decoder_cannot_compute_exactly_is_left_to_transformers(
    change: dict[str, Any], llama: Any, tmp_path: Any
) -> None:
    config = json.loads((llama.base / "config.json").read_text())
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_shape(tmp_path) is not None
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    assert read_shape(tmp_path) is None
