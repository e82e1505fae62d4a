"""Joining, leaving, sharing and running out of room change nobody's tokens."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tailorbird.protocol.generation import GenerationRequest
from tailorbird.serving.tickets import EngineStopped, StepReport

END = 2
Start = Callable[..., Any]


def prompt(seed: int, length: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(3, 300) for _ in range(length)]


def ask(text: int, length: int, count: int, model: str = "base", **more: Any) -> GenerationRequest:
    fields: dict[str, Any] = {"temperature": 0.0} | more
    return GenerationRequest(model=model, prompt=prompt(text, length), max_tokens=count, **fields)


MIXED = [ask(i, 5 + 11 * i, 20 + 5 * (i % 3), ("base", "red", "green")[i % 3]) for i in range(8)]


def alone(workbench: Any, requests: list[GenerationRequest]) -> list[list[int]]:
    return [workbench.ask(request)[0].tokens() for request in requests]


def test_a_request_that_joins_midway_disturbs_nobody(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    expected = alone(workbench, MIXED[:4])
    listeners = []
    for request in MIXED[:4]:
        listener = workbench.submit(request)[1]
        listeners.append(listener)
        listener.wait_for_chunks(3)
    assert [listener.wait().tokens() for listener in listeners] == expected


@pytest.mark.parametrize("limits", [{"max_batch": 2}, {"step_tokens": 7}, {"max_batch": 3, "step_tokens": 16}])
def test_small_limits_change_the_pace_not_the_tokens(llama: Any, start_engine: Start, limits: dict[str, int]) -> None:
    expected = alone(start_engine(llama), MIXED)
    assert [a.tokens() for a in start_engine(llama, **limits).ask(*MIXED)] == expected


def test_running_out_of_memory_sends_the_youngest_back_and_loses_nothing(llama: Any, start_engine: Start) -> None:
    requests = [ask(i, 60, 60, score_prompt=i == 5) for i in range(6)]
    roomy, tight = start_engine(llama), start_engine(llama, cached_tokens=256)
    most: list[int] = []
    tight.engine._observe = lambda report: most.append(report.waiting)
    sent_back: list[int] = []
    send_back = tight.engine._send_back
    tight.engine._send_back = lambda sequence: (sent_back.append(sequence.generated), send_back(sequence))
    answers = tight.ask(*requests)
    assert [a.tokens() for a in answers] == alone(roomy, requests)
    assert answers[5].scores()[1:] == pytest.approx(roomy.ask(requests[5])[0].scores()[1:], abs=1e-5)
    assert max(sent_back) > 0, "nobody was sent back while generating: the test proves nothing"
    assert tight.api.model._cache.used_blocks == 0


def test_first_come_first_served(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, max_batch=1)
    begun: list[int] = []
    listeners = [workbench.submit(ask(0, 9, 100, logit_bias={END: -100.0}))[1]]
    for i in range(1, 5):
        ticket, listener = workbench.submit(ask(i, 9, 4))
        ticket.sink = lambda output, i=i, listener=listener: (begun.append(i), listener(output))
        listeners.append(listener)
    for listener in listeners:
        listener.wait()
    assert begun == sorted(begun)
    assert set(begun) == {1, 2, 3, 4}


def test_choices_share_one_prompt(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    reports: list[StepReport] = []
    workbench.engine._observe = reports.append
    request = ask(3, 70, 12, "red", n=4, temperature=1.0, seed=11)
    (answer,) = workbench.ask(request)
    assert sum(report.prompt_tokens for report in reports) == 70
    for i in range(4):
        twin = ask(3, 70, 12, "red", temperature=1.0, seed=11 + i)
        assert answer.tokens(i) == workbench.ask(twin)[0].tokens()
    assert len({tuple(answer.tokens(i)) for i in range(4)}) == 4


def test_more_choices_than_fit_wait_for_their_turn(llama: Any, start_engine: Start) -> None:
    request = ask(3, 40, 10, n=5, temperature=1.0, seed=2)
    roomy, tight = start_engine(llama).ask(request)[0], start_engine(llama, max_batch=2).ask(request)[0]
    assert [tight.tokens(i) for i in range(5)] == [roomy.tokens(i) for i in range(5)]


def test_a_request_of_many_choices_takes_turns_with_those_behind_it(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, max_batch=2)
    ended: list[str] = []
    many, heard = workbench.submit(ask(3, 40, 12, n=128, temperature=1.0, seed=2, logit_bias={END: -100.0}))
    heard.wait_for_chunks(3)
    quick, other = workbench.submit(ask(4, 10, 3, logit_bias={END: -100.0}))
    quick.sink = lambda output: (ended.append("quick"), other(output))
    many.sink = lambda output: (ended.append("many"), heard(output))
    other.wait()
    assert len({chunk.index for chunk in list(heard.chunks()) if chunk.finish_reason}) < 10
    heard.wait()
    assert ended.count("quick") == 3


def test_128_choices_with_logprobs_compute_their_prompt_once_in_bounded_memory(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, max_batch=8)
    reports: list[StepReport] = []
    used: list[int] = []
    workbench.engine._observe = lambda report: (
        reports.append(report),
        used.append(workbench.api.model._cache.used_blocks),
    )
    request = ask(3, 70, 12, "red", n=128, temperature=1.0, seed=11, top_logprobs=2)
    (answer,) = workbench.ask(request)
    assert sum(report.prompt_tokens for report in reports) == 70
    assert max(report.running for report in reports) == 8
    # Two full blocks of the prompt are shared; a running choice and the kept prompt hold one of their own.
    assert max(used) <= 2 + 8 + 1
    for i in (0, 7, 8, 90, 127):
        (twin,) = workbench.ask(ask(3, 70, 12, "red", temperature=1.0, seed=11 + i, top_logprobs=2))
        assert answer.tokens(i) == twin.tokens()
        mine, its = ([entry for chunk in a.chunks(k) for entry in chunk.logprobs] for a, k in ((answer, i), (twin, 0)))
        assert [entry.logprob for entry in mine] == pytest.approx([entry.logprob for entry in its], abs=1e-4)
    workbench.ask(ask(1, 5, 2))
    assert workbench.api.model._cache.used_blocks == 0


def test_a_kept_prompt_gives_way_when_memory_runs_out(llama: Any, start_engine: Start) -> None:
    requests = [ask(i, 60, 60, n=6, temperature=1.0, seed=i) for i in range(3)]
    roomy, tight = start_engine(llama), start_engine(llama, max_batch=4, cached_tokens=256)
    forgotten: list[bool] = []
    forget = tight.engine._forget_one
    tight.engine._forget_one = lambda: (forgotten.append(forget()), forgotten[-1])[1]
    for mine, its in zip(tight.ask(*requests), roomy.ask(*requests), strict=True):
        assert [mine.tokens(i) for i in range(6)] == [its.tokens(i) for i in range(6)]
    assert True in forgotten, "there was room for all: the test proves nothing"
    assert tight.api.model._cache.used_blocks == 0


def test_cancelling_a_request_gives_back_the_prompt_kept_for_its_choices(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama, max_batch=1)
    ticket, listener = workbench.submit(ask(1, 70, 100, n=5, logit_bias={END: -100.0}))
    listener.wait_for_chunks(3)
    assert ticket.prompt is not None, "nothing was kept: the test proves nothing"
    workbench.engine.cancel(ticket)
    workbench.ask(ask(2, 5, 3))
    assert workbench.api.model._cache.used_blocks == 0


def test_the_same_seed_gives_the_same_answer_in_any_company(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    request = ask(1, 20, 25, "green", temperature=0.9, top_p=0.8, seed=42)
    (first,) = workbench.ask(request)
    again = workbench.ask(*MIXED, request)[-1]
    assert again.tokens() == first.tokens()
    assert workbench.ask(ask(1, 20, 25, "green", temperature=0.9, top_p=0.8, seed=43))[0].tokens() != first.tokens()


def test_a_cancelled_request_frees_its_memory_and_goes_quiet(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    ticket, listener = workbench.submit(ask(1, 20, 200, logit_bias={END: -100.0}, n=2))
    listener.wait_for_chunks(4)
    workbench.engine.cancel(ticket)
    workbench.ask(ask(2, 5, 3))
    heard = len(listener.heard)
    workbench.ask(ask(2, 5, 3))
    assert len(listener.heard) == heard < 400
    assert workbench.api.model._cache.used_blocks == 0


def test_an_adapter_may_be_unloaded_while_it_answers(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    request = ask(1, 20, 100, "red", logit_bias={END: -100.0})
    (expected,) = workbench.ask(request)
    _, listener = workbench.submit(request)
    listener.wait_for_chunks(3)
    assert workbench.api.registry.unload("red")
    assert listener.wait().tokens() == expected.tokens()


def test_an_end_token_ends_the_answer_without_text(llama: Any, start_engine: Start) -> None:
    (answer,) = start_engine(llama).ask(ask(1, 5, 50, logit_bias={END: 100.0}))
    assert (answer.tokens(), answer.text(), answer.reason()) == ([END], "", "stop")


def test_a_stop_token_id_ends_the_answer(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    (free,) = workbench.ask(ask(1, 5, 10))
    target = free.tokens()[4]
    (answer,) = workbench.ask(ask(1, 5, 10, stop_token_ids=[target]))
    first = free.tokens().index(target)
    assert answer.tokens() == free.tokens()[: first + 1]
    assert answer.reason() == "stop"


def test_a_stop_string_ends_the_answer_before_itself(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    request = ask(4, 5, 40, temperature=1.0, seed=8)
    (free,) = workbench.ask(request)
    stop = free.text()[8:11]
    (answer,) = workbench.ask(ask(4, 5, 40, temperature=1.0, seed=8, stop=[stop]))
    assert answer.text() == free.text()[: free.text().index(stop)]
    assert answer.reason() == "stop"
    assert len(answer.tokens()) < len(free.tokens())


def test_max_tokens_is_the_length_of_the_answer(llama: Any, start_engine: Start) -> None:
    (answer,) = start_engine(llama).ask(ask(1, 5, 7, logit_bias={END: -100.0}))
    assert (len(answer.tokens()), answer.reason()) == (7, "length")


def test_logprobs_of_the_answer_equal_its_score_as_a_prompt(llama: Any, start_engine: Start) -> None:
    """Penalties, temperature and bias steer the draw and leave the log-probabilities alone."""
    workbench = start_engine(llama)
    steered = {"temperature": 0.7, "seed": 1, "frequency_penalty": 1.0, "presence_penalty": 0.5, "logit_bias": {9: 3.0}}
    (answer,) = workbench.ask(ask(1, 12, 15, "red", top_logprobs=3, **steered))
    whole = [*prompt(1, 12), *answer.tokens()]
    (scored,) = workbench.ask(GenerationRequest("red", whole, max_tokens=1, temperature=0.0, score_prompt=True))
    entries = [entry for chunk in answer.chunks() for entry in chunk.logprobs or []]
    assert [entry.token_id for entry in entries] == answer.tokens()
    assert [entry.logprob for entry in entries] == pytest.approx(scored.scores()[12:], abs=1e-4)
    assert all(len(entry.top) == 3 for entry in entries)


def test_a_prompt_of_one_token_has_one_empty_score(llama: Any, start_engine: Start) -> None:
    (answer,) = start_engine(llama).ask(ask(1, 1, 2, score_prompt=True))
    assert answer.scores() == [None]


def test_a_broken_model_ends_the_engine_and_tells_everyone(
    llama: Any, start_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[bool] = []
    monkeypatch.setattr("threading.excepthook", lambda caught: failed.append(caught.exc_type is ZeroDivisionError))
    workbench = start_engine(llama)
    told: list[bool] = []
    workbench.engine._on_failure = lambda: told.append(True)
    workbench.api.model.rows = lambda chunks: 1 // 0
    (answer,) = workbench.ask(ask(1, 5, 5))
    assert answer.heard == [EngineStopped()]
    workbench.engine._thread.join(5)
    assert (failed, told) == ([True], [True])
    assert workbench.engine.broken
    assert not workbench.engine.alive
    assert workbench.ask(ask(1, 5, 5))[0].heard == [EngineStopped()]


def test_stopping_tells_open_requests(llama: Any, start_engine: Start) -> None:
    workbench = start_engine(llama)
    _, listener = workbench.submit(ask(1, 20, 200, logit_bias={END: -100.0}))
    listener.wait_for_chunks(1)
    assert workbench.engine.stop(10)
    assert listener.wait().heard[-1] == EngineStopped()
    assert not workbench.engine.broken
