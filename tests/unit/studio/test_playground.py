"""The playground without its widgets: what is asked of whom, what came back, what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import pytest

from tailorbird.studio.client import AZURE_SURFACE, OPENAI_SURFACE, Refused
from tailorbird.studio.pages.deployment_facts import Facts
from tailorbird.studio.pages.playground_choices import base_of, choices, first, others
from tailorbird.studio.pages.playground_code import body_of
from tailorbird.studio.pages.playground_run import Run, going
from tailorbird.studio.pages.playground_setup import COMPLETIONS, Setup
from tailorbird.studio.pages.playground_system import differs, prefill
from tailorbird.studio.pages.playground_talk import (
    DONE,
    MAX_TURNS,
    REFUSED,
    RUNNING,
    STOPPED,
    Answer,
    Settings,
    Target,
    Trained,
    Turn,
    chat_body,
    read_stops,
    restored,
    stored,
    trained_with,
)
from tailorbird.studio.pages.playground_turns import figures, note, spoken
from tailorbird.studio.words import Words

EN = Words("en")
BASE = "gpt-35-turbo-0613"
TUNED = f"{BASE}.ft-{'ab' * 16}-mine"
MINE, PLAIN = "d:mine", f"m:{BASE}"


def model(name: str, *, chats: bool = True, completes: bool = False, **more: Any) -> dict[str, Any]:
    able = {"chat_completion": chats, "completion": completes, "embeddings": not (chats or completes)}
    return {"id": name, "capabilities": able, **more}


def deployment(name: str, served: str, **more: Any) -> Facts:
    return Facts(name, served, "Succeeded", "Standard", 1, base_model=BASE, **more)


def known() -> dict[str, Any]:
    rows = [
        deployment("plain", BASE, created_at=9),
        deployment("mine", f"{TUNED}:ckpt-step-8", created_at=5),
        deployment("paused", BASE, paused=True),
        deployment("vectors", "embedder"),
    ]
    models = [
        model(BASE),
        model("babbage-002", chats=False, completes=True),
        model("embedder", chats=False),
        model(TUNED, model=BASE, fine_tune="ftjob-1"),
    ]
    return choices(EN, rows, models)


# --- whom to ask ------------------------------------------------------------------------------------------------------


def test_what_answers_can_be_asked_and_embeddings_and_paused_ones_cannot() -> None:
    found = known()
    assert list(found) == ["d:plain", MINE, PLAIN, "m:babbage-002", f"m:{TUNED}"]
    assert found[MINE].job == "ftjob-1"
    assert (found["m:babbage-002"].can("chat"), found["m:babbage-002"].can("completions")) == (False, True)


def test_a_fine_tuned_deployment_is_asked_first_unless_somebody_wished_otherwise() -> None:
    found = known()
    assert first(found, "chat", []) == MINE
    assert first(found, "chat", ["d:gone", "d:plain"]) == "d:plain"
    assert first(found, "completions", []) == "m:babbage-002"
    assert first({}, "chat", ["d:gone"]) == ""


def test_the_base_model_stands_first_among_those_beside() -> None:
    found = known()
    assert base_of(found, MINE) == PLAIN
    assert list(others(EN, found, MINE))[:2] == ["", PLAIN]
    assert MINE not in others(EN, found, MINE)
    assert base_of(found, "d:plain") == ""


def test_a_target_is_written_and_read_with_whatever_its_name_holds() -> None:
    name = f"{TUNED}:ckpt-step-8"
    assert Target.read(str(Target(name, True))) == Target(name, True)
    assert Target.read("nobody") is None
    assert Target.read("d:") is None


# --- what is asked ----------------------------------------------------------------------------------------------------


def talk() -> list[Turn]:
    return [
        Turn("1", "one", [Answer(MINE, "left", DONE), Answer(PLAIN, "right", DONE)]),
        Turn("2", "two", [Answer(MINE), Answer(PLAIN)]),
    ]


def test_each_side_has_its_own_answers_in_its_history() -> None:
    left, right = (chat_body(talk(), side, "Be brief.", Settings())["messages"] for side in (0, 1))
    assert [message["content"] for message in left] == ["Be brief.", "one", "left", "two"]
    assert [message["content"] for message in right] == ["Be brief.", "one", "right", "two"]


def test_a_side_that_joined_later_goes_on_from_the_other_s_answers() -> None:
    turns = [Turn("1", "one", [Answer(MINE, "left", DONE)]), Turn("2", "two")]
    assert chat_body(turns, 1, "", Settings())["messages"][1] == {"role": "assistant", "content": "left"}


def test_a_question_that_was_refused_or_never_answered_is_not_asked_again_with_every_later_one() -> None:
    refused = Turn("1", "harm", [Answer(MINE, state=REFUSED), Answer(PLAIN, "oh", DONE)])
    silent = Turn("2", "hm", [Answer(MINE, "", STOPPED)])
    turns = [refused, silent, Turn("3", "three")]
    assert chat_body(turns, 0, "", Settings())["messages"] == [{"role": "user", "content": "three"}]
    assert [one["content"] for one in chat_body(turns, 1, "", Settings())["messages"]] == ["harm", "oh", "three"]
    assert chat_body([], 0, "", Settings())["messages"] == []


def test_a_setting_that_is_empty_is_not_sent() -> None:
    assert Settings(None, None, None).fields() == {}
    told = Settings(0.0, 0.5, 7, ("\n",), 0).fields()
    assert told == {"temperature": 0.0, "top_p": 0.5, "max_tokens": 7, "stop": ["\n"], "seed": 0}


def test_stop_sequences_are_lines_and_a_line_s_end_can_be_one() -> None:
    assert read_stops("END\n\n\\n\na\nb\nc") == ("END", "\n", "a", "b")
    assert read_stops("") == ()


def test_the_code_asks_what_a_send_would_ask() -> None:
    setup = Setup({"system": "Be brief.", "set_max_tokens": 5.0})
    setup.turns = talk()[:1]
    body = body_of(setup, "next?")
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "one", "left", "next?"]
    assert body["max_tokens"] == 5
    assert isinstance(body["max_tokens"], int)
    setup.mode = COMPLETIONS
    assert body_of(setup, "Once")["prompt"] == "Once"
    assert body_of(setup, "")["prompt"] == ""


# --- the system message -----------------------------------------------------------------------------------------------


def line(*messages: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": text} for role, text in messages]}) + "\n"


def test_the_system_message_of_training_is_the_most_frequent_first_one() -> None:
    text = (
        "\ufeff" + line(("system", "A"), ("user", "hi"), ("assistant", "x")) * 2 + line(("system", "B"), ("user", "u"))
    )
    assert trained_with(text) == Trained("A", 2, "hi")
    assert trained_with(line(("user", "hi"))) == Trained("", 1, "hi")


def test_preferences_and_cut_or_foreign_lines_are_read_for_what_they_hold() -> None:
    preference = (
        json.dumps({"input": {"messages": [{"role": "system", "content": "P"}]}, "preferred_output": []}) + "\n"
    )
    assert trained_with(preference + '{"messages": [{"role": "sys') == Trained("P", 1)
    assert trained_with('{"prompt": "a", "completion": "b"}\n[1]\nnone\n') is None
    assert trained_with("") is None


def test_the_field_is_filled_until_somebody_has_written_in_it() -> None:
    trained = Trained("A", 1)
    assert prefill("", "", trained) == "A"
    assert prefill("from before", "from before", trained) == "A"
    assert prefill("my own", "from before", trained) is None
    assert prefill("", "", None) is None
    assert differs("my own", trained)
    assert not differs(" A\n", trained)
    assert not differs("my own", None)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_speed_counts_what_came_after_the_first_token() -> None:
    answer = Answer(MINE, "x", DONE, prompt_tokens=10, completion_tokens=21, first_seconds=0.5, seconds=2.5)
    assert figures(EN, answer) == ["10 + 21 tokens", "first token after 0.50 s", "2.50 s in all", "10.0 tokens/s"]
    assert figures(EN, Answer(MINE)) == []
    assert Answer(MINE, "x", DONE, completion_tokens=1, first_seconds=0.5, seconds=0.5).tokens_per_second == 2
    assert Answer(MINE, "", DONE, completion_tokens=0, seconds=0.0).tokens_per_second is None


@pytest.mark.parametrize(
    ("answer", "kind", "part"),
    [
        (Answer(MINE, state=REFUSED, code="content_filter", problem="raw"), "warning", "refused this prompt"),
        (Answer(MINE, state=REFUSED, code="429", problem="Wait a minute."), "problem", "Wait a minute."),
        (Answer(MINE, "x", DONE, finish="content_filter"), "warning", "ended this answer"),
        (Answer(MINE, "x", DONE, finish="length"), "reason", "Cut off"),
        (Answer(MINE, "x", STOPPED), "reason", "Stopped"),
        (Answer(MINE, "", DONE, finish="stop"), "reason", "empty"),
        (Answer(MINE, "x", DONE, finish="stop"), "", ""),
    ],
)
def test_how_an_answer_ended_is_told_in_words(answer: Answer, kind: str, part: str) -> None:
    told, sentence = note(EN, answer)
    assert told == kind
    assert part in sentence


def test_an_answer_is_read_out_whole() -> None:
    turn = Turn("1", "q", [Answer(MINE, "yes", DONE), Answer(PLAIN, state=REFUSED, problem="No.")])
    assert spoken(EN, turn, lambda value: value[2:]) == f"mine answered: yes {BASE} answered: No."


# --- a run ------------------------------------------------------------------------------------------------------------


def chunk(text: str = "", finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}


class Wire:
    """Answers each model with what it was told, and notes on which surface it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        self.closed: list[str] = []
        self.begun = asyncio.Event()

    async def __call__(self, path: str, body: Mapping[str, Any], surface: str) -> AsyncGenerator[dict[str, Any], None]:
        name = str(body["model"])
        self.asked[name] = (path, surface, body)
        try:
            for one in self.answers[name]:
                if isinstance(one, Exception):
                    raise one
                if one is None:
                    self.begun.set()
                    await asyncio.Event().wait()
                else:
                    yield one
        finally:
            self.closed.append(name)


def start(wire: Wire, *targets: str) -> tuple[Run, list[Turn]]:
    ended: list[Turn] = []
    run = Run(Turn("t1", "hi", [Answer(target) for target in targets]), ended.append)
    run.start(wire, "/chat/completions", [{"messages": []} for _ in targets])
    assert run.task is not None
    return run, ended


async def test_both_sides_stream_at_once_each_on_its_surface() -> None:
    wire = Wire(mine=[chunk("a"), chunk("b", "stop"), USAGE], base=[chunk("c"), chunk("", "length"), USAGE])
    run, ended = start(wire, "d:mine", "m:base")
    assert going("t1") is run
    assert run.task is not None
    await run.task
    left, right = run.turn.answers
    assert (left.text, left.finish, left.state, left.prompt_tokens) == ("ab", "stop", DONE, 4)
    assert (right.text, right.finish, right.completion_tokens) == ("c", "length", 2)
    assert left.seconds is not None
    assert left.first_seconds is not None
    assert (wire.asked["mine"][1], wire.asked["base"][1]) == (AZURE_SURFACE, OPENAI_SURFACE)
    assert wire.asked["mine"][2]["stream_options"] == {"include_usage": True}
    assert (ended, going("t1")) == ([run.turn], None)


async def test_a_stop_keeps_what_was_said_and_closes_the_stream() -> None:
    wire = Wire(mine=[chunk("half"), None])
    run, ended = start(wire, "d:mine")
    await asyncio.wait_for(wire.begun.wait(), 30)
    run.stop()
    assert run.task is not None
    await asyncio.wait_for(run.task, 30)
    [answer] = run.turn.answers
    assert (answer.text, answer.state) == ("half", STOPPED)
    assert wire.closed == ["mine"]
    assert ended == [run.turn]


async def test_one_side_s_refusal_leaves_the_other_alone() -> None:
    refusal = Refused("Too hot.", status=400, code="x", param="temperature")
    run, _ = start(Wire(mine=[refusal], base=[chunk("fine", "stop")]), "d:mine", "m:base")
    assert run.task is not None
    await run.task
    left, right = run.turn.answers
    assert (left.state, left.problem, left.param) == (REFUSED, "Too hot.", "temperature")
    assert (right.state, right.text) == (DONE, "fine")


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_a_conversation_outlives_a_reload_and_what_cannot_be_read_is_left_out() -> None:
    rows = json.loads(json.dumps(stored(talk())))
    assert restored([*rows, {"id": "3"}, {"id": "4", "asked": "x", "answers": [{"nothing": 1}]}]) == talk()
    assert len(stored([Turn(str(n), "q") for n in range(MAX_TURNS + 5)])) == MAX_TURNS


def test_an_answer_a_restart_broke_off_has_stopped() -> None:
    setup = Setup({"turns_chat": stored(talk())})
    assert [answer.state for answer in setup.turns[-1].answers] == [STOPPED, STOPPED]


async def test_a_run_goes_on_without_its_page_and_a_new_page_finds_it() -> None:
    kept: dict[str, Any] = {}
    wire = Wire(mine=[chunk("half"), None])
    before = Setup(kept)
    turn = Turn("t9", "hi", [Answer("d:mine")])
    before.turns.append(turn)
    before.save()
    run = Run(turn, lambda done: before.finish("chat", done))
    run.start(wire, "/chat/completions", [{"messages": []}])
    await asyncio.wait_for(wire.begun.wait(), 30)
    after = Setup(kept)
    assert after.turns[-1] is turn
    assert after.turns[-1].answers[0].state == RUNNING
    run.stop()
    assert run.task is not None
    await asyncio.wait_for(run.task, 30)
    assert kept["turns_chat"][-1]["answers"][0]["text"] == "half"


def test_a_run_that_ends_after_its_conversation_was_cleared_brings_nothing_back() -> None:
    setup = Setup({})
    setup.finish("chat", talk()[0])
    assert setup.kept["turns_chat"] == []


def test_each_mode_has_its_own_conversation_and_settings_can_be_reset() -> None:
    setup = Setup({"turns_chat": stored(talk()), "set_temperature": 0.2})
    setup.mode = COMPLETIONS
    assert setup.turns == []
    setup.mode = "chat"
    assert len(setup.turns) == 2
    assert setup.settings.temperature == 0.2
    setup.reset()
    assert setup.settings == Settings()
