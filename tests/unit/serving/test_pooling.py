"""Embeddings against transformers + PEFT computing each text alone, and beside generating rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tailorbird.protocol.generation import EmbeddingRequest, GenerationRequest
from tailorbird.serving.tickets import EngineStopped, StepReport, TextsTicket, Vectors

END = 2
Make = Callable[[str], Any]
Start = Callable[..., Any]


def texts(count: int, longest: int = 60, seed: int = 1) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(3, 300) for _ in range(draw.randrange(1, longest))] for _ in range(count)]


class Heard:
    """A sink for one embedding request."""

    def __init__(self) -> None:
        self.outcomes: list[Vectors | EngineStopped] = []

    def __call__(self, outcome: Vectors | EngineStopped) -> None:
        self.outcomes.append(outcome)


def submit(workbench: Any, inputs: list[list[int]], model: str = "base") -> tuple[TextsTicket, Heard]:
    heard = Heard()
    adapter = None if model == "base" else workbench.api.registry.get(model)
    return workbench.engine.embed(EmbeddingRequest(model, inputs), adapter, heard), heard


def embed(workbench: Any, inputs: list[list[int]], model: str = "base") -> list[list[float]]:
    _, heard = submit(workbench, inputs, model)
    while not heard.outcomes:
        workbench.ask(GenerationRequest("base", [5], 1))
    (found,) = heard.outcomes
    assert isinstance(found, Vectors)
    return found.vectors


def plain(bench: Any, adapter: str | None, inputs: list[list[int]]) -> list[list[float]]:
    """The mean of the states behind the final norm, of length 1, one text at a time."""
    model = bench.plain(adapter)
    found = []
    for text in inputs:
        with torch.no_grad():
            state = model(torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0].float().mean(0)
        found.append((state / state.norm()).tolist())
    return found


@pytest.mark.parametrize("family", ["llama", "llama3", "qwen3", "mistral", "phi3", "gemma2"])
def test_a_vector_is_the_mean_of_the_last_states_and_of_length_one(
    family: str, make_bench: Make, start_engine: Start
) -> None:
    bench = make_bench(family)
    workbench = start_engine(bench, step_tokens=70)  # several packs
    inputs = [[7], *texts(7)]
    for model in ("base", "green"):
        found = embed(workbench, inputs, model)
        expected = plain(bench, None if model == "base" else model, inputs)
        for got, wanted in zip(found, expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-5)
            assert sum(value * value for value in got) == pytest.approx(1.0, abs=1e-5)


def test_a_text_longer_than_a_step_is_embedded_whole(llama: Any, start_engine: Start) -> None:
    inputs = [texts(1, 200, seed=4)[0] * 2, [9, 10]]
    assert len(inputs[0]) > 16
    (found, _) = embed(start_engine(llama, step_tokens=16), inputs)
    assert found == pytest.approx(plain(llama, None, inputs)[0], abs=1e-5)


def test_embedding_beside_generation_changes_no_token_and_holds_no_cache(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, step_tokens=32)
    asked = GenerationRequest("red", [5, 6, 7, 8], 120, temperature=0.0, logit_bias={END: -100.0})
    (expected,) = workbench.ask(asked)
    used: list[int] = []
    workbench.engine._observe = lambda report: used.append(workbench.api.model._cache.used_blocks)
    _, listener = workbench.submit(asked)
    listener.wait_for_chunks(3)
    _, heard = submit(workbench, texts(20), "green")
    assert listener.wait().tokens() == expected.tokens()
    assert len(heard.outcomes) == 1
    assert max(used) <= 4, "a block more than the answer's own"


def test_a_request_of_many_texts_takes_turns_with_those_behind_it(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, step_tokens=16)
    gate, order = submit(workbench, texts(1)), []
    long, _ = submit(workbench, [[5] * 16] * 30)
    long.sink = lambda outcome: order.append("long")
    short, _ = submit(workbench, [[6] * 16] * 2)
    short.sink = lambda outcome: order.append("short")
    while len(order) < 2:
        workbench.ask(GenerationRequest("base", [5], 1))
    assert gate[1].outcomes
    assert order == ["short", "long"]


def test_a_cancelled_embedding_is_dropped(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, step_tokens=16)
    reports: list[StepReport] = []
    workbench.engine._observe = reports.append
    ticket, heard = submit(workbench, [[5] * 16] * 2000)
    workbench.engine.cancel(ticket)
    workbench.ask(GenerationRequest("base", [5], 1))
    workbench.ask(GenerationRequest("base", [5], 1))
    assert heard.outcomes == []
    assert sum(report.embedded_tokens for report in reports) < 2000 * 16
    assert workbench.engine._open == set()


def test_stopping_tells_open_embeddings(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, step_tokens=16)
    _, heard = submit(workbench, [[5] * 16] * 5000)
    assert workbench.engine.stop(10)
    assert heard.outcomes == [EngineStopped()]
    assert submit(workbench, [[5]])[1].outcomes == [EngineStopped()]
