"""Home: its figures, and the sample job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tailorbird import studio
from tailorbird.studio import sample
from tailorbird.studio.client import Api, Refused, Wire
from tailorbird.studio.pages.home import Figures, count
from tailorbird.studio.session import Session, Sessions

STATIC = Path(studio.__file__).parent / "static"
EXAMPLES = Path(__file__).parents[3] / "examples"
ABLE = {"fine_tune": True, "chat_completion": True}


def job(status: str) -> dict[str, str]:
    return {"id": status, "status": status}


def test_jobs_are_counted_by_what_they_do() -> None:
    words = ("running", "pausing", "pending", "resuming", "paused", "succeeded", "failed", "cancelled")
    used = [{"last_used_at": None}, {"last_used_at": 5}]
    found = count([job(word) for word in words], used, {"total": "1.50", "currency": "USD"})
    assert found == Figures(running=2, queued=2, paused=1, deployed=2, unused=1, spent=("1.50", "USD"))


def test_what_may_not_be_seen_is_not_nought() -> None:
    found = count(None, None, None)
    assert (found.running, found.queued, found.deployed, found.spent) == (None, None, None, None)
    assert (count([], [], None).running, count([], [], None).deployed) == (0, 0)


@pytest.mark.parametrize(("name", "example"), [(sample.TRAINING, "train"), (sample.VALIDATION, "valid")])
def test_the_sample_is_the_beginning_of_the_demo_s_data_with_a_byte_order_mark(name: str, example: str) -> None:
    content = (STATIC / name).read_bytes()
    whole = (EXAMPLES / f"bookings.{example}.jsonl").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    assert whole.startswith(content)
    assert content.endswith(b"\n")
    assert all(len(json.loads(line)["messages"]) == 3 for line in content.decode("utf-8-sig").splitlines())


def test_the_texts_tell_the_sample_s_true_size() -> None:
    from tailorbird.studio.words import LANGUAGES, Words

    sizes = [str(len((STATIC / name).read_bytes().splitlines())) for name in (sample.TRAINING, sample.VALIDATION)]
    for language in LANGUAGES:
        assert [size for size in sizes if size not in Words(language)("home.first_upload")] == [], language


def test_the_sample_takes_the_tutorial_s_model_else_a_chat_model_that_can_be_tuned() -> None:
    rows: list[dict[str, Any]] = [
        {"id": "vectors", "capabilities": ABLE | {"fine_tune": False}},
        {"id": "babbage-002", "capabilities": ABLE | {"chat_completion": False}},
        {"id": "own.ft-1", "capabilities": ABLE, "fine_tune": "ftjob-1"},
        {"id": "llama", "capabilities": ABLE},
    ]
    assert sample.model_for(rows) == "llama"
    assert sample.model_for([*rows, {"id": "gpt-4o-mini-2024-07-18", "capabilities": ABLE}]) == "gpt-4o-mini-2024-07-18"


@pytest.fixture
def api(wire: Wire, sessions: Sessions) -> Api:
    session = Session("key", "anna", "k1")
    return Api(wire, sessions, sessions.begin(session), session)


async def test_one_click_uploads_the_sample_and_makes_its_job(service: Any, api: Api) -> None:
    ids = iter(("file-train", "file-valid"))
    service.answers["GET /openai/v1/files"] = {"data": [], "has_more": False}
    service.answers["POST /openai/v1/files"] = lambda _request: {"id": next(ids)}
    service.answers["GET /openai/v1/models"] = {"data": [{"id": "weaver", "capabilities": ABLE}]}
    service.answers["POST /openai/v1/fine_tuning/jobs"] = {"id": "ftjob-1"}
    assert await sample.start(api) == "ftjob-1"
    sent = [one for one in service.seen if one.method == "POST"]
    assert b'name="purpose"\r\n\r\nfine-tune' in sent[0].content
    assert (STATIC / sample.TRAINING).read_bytes() in sent[0].content
    asked = json.loads(sent[2].content)
    assert (asked["model"], asked["training_file"], asked["validation_file"]) == ("weaver", "file-train", "file-valid")


async def test_a_sample_that_is_there_already_is_not_uploaded_again(service: Any, api: Api) -> None:
    rows = [
        {"id": f"file-{name}", "filename": name, "bytes": (STATIC / name).stat().st_size, "status": "processed"}
        for name in (sample.TRAINING, sample.VALIDATION)
    ]
    service.answers["GET /openai/v1/files"] = {"data": rows, "has_more": False}
    assert [row["id"] for row in await sample.files(api)] == [row["id"] for row in rows]
    rows[0]["status"] = "error"
    with pytest.raises(Refused):
        await sample.files(api)
    assert service.asked()[-1] == "POST /openai/v1/files", "a broken one is no sample"
