"""Structured answers among others: every one keeps its form, and nobody's tokens change."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tailorbird.protocol.generation import GenerationRequest, Structure
from tailorbird.serving.tickets import StructureBroken

END = 2
Start = Callable[..., Any]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "seats": {"type": "integer", "minimum": 0, "maximum": 99},
        "kind": {"enum": ["leaf", "nest"]},
    },
    "required": ["name", "seats", "kind"],
    "additionalProperties": False,
}
JSON = Structure("json_schema", json.dumps(SCHEMA))
WORDS = Structure("grammar", r"start: /[a-z]{3,6}( [a-z]{3,6}){3}/")


def ask(text: int, count: int, model: str = "base", **more: Any) -> GenerationRequest:
    draw = random.Random(text)
    fields: dict[str, Any] = {"temperature": 0.0} | more
    prompt = [draw.randrange(3, 97) for _ in range(4 + 7 * (text % 9))]
    return GenerationRequest(model=model, prompt=prompt, max_tokens=count, **fields)


def test_structured_and_free_rows_of_many_adapters_answer_as_each_would_alone(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    drawn: dict[str, Any] = {"temperature": 1.0, "seed": 3}
    requests = [
        ask(0, 30),
        ask(1, 60, "red", structure=WORDS),
        ask(2, 40, "green", **drawn),
        ask(3, 150, "green", structure=JSON, **drawn),
        ask(4, 40, "red", n=2, **drawn),
        ask(5, 150, "base", structure=JSON, n=3, top_p=0.9, **drawn),
    ]
    alone = [[workbench.ask(r)[0].tokens(i) for i in range(r.n)] for r in requests]
    together = workbench.ask(*requests)
    assert [[a.tokens(i) for i in range(r.n)] for r, a in zip(requests, together, strict=True)] == alone
    tight = start_engine(llama, max_batch=3, step_tokens=9, cached_tokens=300).ask(*requests)
    assert [[a.tokens(i) for i in range(r.n)] for r, a in zip(requests, tight, strict=True)] == alone


def test_whatever_is_drawn_the_answer_fits_the_schema(llama: Any, start_engine: Start) -> None:
    (answer,) = start_engine(llama).ask(ask(1, 200, "red", structure=JSON, n=12, temperature=1.0, seed=5))
    found = []
    for index in range(12):
        assert answer.reason(index) == "stop"
        found.append(json.loads(answer.text(index)))
        assert list(found[-1]) == ["name", "seats", "kind"]
        assert len(found[-1]["name"]) <= 4
        assert 0 <= found[-1]["seats"] <= 99
        assert found[-1]["kind"] in ("leaf", "nest")
    assert len({json.dumps(one) for one in found}) > 3


def test_an_answer_cut_off_inside_its_structure_ends_by_length(llama: Any, start_engine: Start) -> None:
    (answer,) = start_engine(llama).ask(ask(2, 5, structure=JSON))
    assert (answer.reason(), len(answer.tokens())) == ("length", 5)


def test_an_answer_that_is_complete_with_its_last_token_ends_by_stop(llama: Any, start_engine: Start) -> None:
    structure = Structure("grammar", 'start: "a"')
    (answer,) = start_engine(llama).ask(ask(2, 1, structure=structure))
    assert (answer.reason(), answer.text()) == ("stop", "a")


def test_the_end_token_ends_what_could_go_on(llama: Any, start_engine: Start, tokenizer: Any) -> None:
    structure = Structure("grammar", "start: /a+/")
    a = tokenizer.token_to_id("a")
    (answer,) = start_engine(llama).ask(ask(2, 20, structure=structure, logit_bias={END: 100.0}))
    assert (answer.tokens(), answer.text(), answer.reason()) == ([a, END], "a", "stop")


def test_a_stop_token_of_the_request_ends_what_is_complete(llama: Any, start_engine: Start, tokenizer: Any) -> None:
    z, a = tokenizer.token_to_id("z"), tokenizer.token_to_id("a")
    asked = ask(2, 20, structure=Structure("grammar", "start: /a+/"), stop_token_ids=[z], logit_bias={z: 100.0})
    (answer,) = start_engine(llama).ask(asked)
    assert (answer.tokens(), answer.reason()) == ([a, z], "stop")


def test_a_stop_string_inside_a_structure_ends_the_answer_before_it(llama: Any, start_engine: Start) -> None:
    structure = Structure("grammar", 'start: "one two three four"')
    (answer,) = start_engine(llama).ask(ask(2, 40, structure=structure, stop=["two"]))
    assert (answer.text(), answer.reason()) == ("one ", "stop")


def test_text_held_back_for_a_stop_string_comes_when_the_structure_is_complete(llama: Any, start_engine: Start) -> None:
    structure = Structure("grammar", 'start: "one tw"')
    (answer,) = start_engine(llama).ask(ask(2, 40, structure=structure, stop=["two"]))
    assert (answer.text(), answer.reason()) == ("one tw", "stop")


def test_bias_and_penalties_choose_among_what_the_structure_allows(
    llama: Any, start_engine: Start, tokenizer: Any
) -> None:
    letters = {letter: tokenizer.token_to_id(letter) for letter in "abcz"}
    workbench = start_engine(llama)
    structure = Structure("grammar", "start: /[abc]{3}/")
    pairs = {i: -100.0 for i in range(3, 300) if i not in letters.values()}  # single letters only
    pushed = pairs | {letters["z"]: 100.0, letters["c"]: 50.0}
    assert workbench.ask(ask(1, 9, structure=structure, logit_bias=pushed))[0].text() == "ccc"
    evenly = pairs | {letters[letter]: 100.0 for letter in "abc"}
    penalised = ask(1, 9, structure=structure, logit_bias=evenly, frequency_penalty=2.0, presence_penalty=2.0)
    (answer,) = workbench.ask(penalised)
    assert len(answer.text()) == 3
    assert set(answer.text()) <= set("abc")
    assert answer.text() != workbench.ask(ask(1, 9, structure=structure, logit_bias=evenly))[0].text()


def test_log_probabilities_stay_the_model_s_own(llama: Any, start_engine: Start) -> None:
    request = ask(3, 40, "green", structure=WORDS, top_logprobs=2, temperature=1.0, seed=1)
    (answer,) = start_engine(llama).ask(request)
    tokens = answer.tokens()
    plain = llama.logprobs("green", request.prompt + tokens)
    entries = [entry for chunk in answer.chunks() for entry in chunk.logprobs]
    for i, entry in enumerate(entries):
        row = plain[len(request.prompt) - 1 + i]
        assert entry.logprob == pytest.approx(row[tokens[i]].item(), abs=1e-4)
        assert [other.token_id for other in entry.top] == row.topk(2).indices.tolist()


def test_a_structure_that_breaks_midway_ends_its_request_and_no_other(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    other = ask(2, 40, logit_bias={END: -100.0})
    (expected,) = workbench.ask(other)
    ticket, broken = workbench.submit(ask(1, 150, structure=Structure("grammar", "start: /[a-z]{100}/"), n=3))
    _, healthy = workbench.submit(other)
    broken.wait_for_chunks(9)

    def break_off(output: Any) -> None:
        ticket.sink = broken
        broken(output)
        for sequence in workbench.engine._running:
            if sequence.ticket is ticket and sequence.index == 1:
                sequence.guide.take(END)  # what a matcher does that has run into one of its limits

    ticket.sink = break_off
    assert healthy.wait().tokens() == expected.tokens()
    workbench.ask(ask(2, 5))
    assert isinstance(broken.heard[-1], StructureBroken)
    assert [type(output) for output in broken.heard].count(StructureBroken) == 1
    assert workbench.engine._open == set()
    assert workbench.api.model._cache.used_blocks == 0
