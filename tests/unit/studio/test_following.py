"""One job followed for many pages: each is told what is new, nobody asks twice, and the end ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from tailorbird.studio import following
from tailorbird.studio.client import Api, Refused, Wire
from tailorbird.studio.following import Following, News, follow
from tailorbird.studio.session import Session, Sessions
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

JOB = "ftjob-1"
DATA, OWN = f"/openai/v1/fine_tuning/jobs/{JOB}", f"/tailorbird/v1/fine_tuning/jobs/{JOB}"


class Element:
    """What a page hangs its listening on."""

    is_deleted = False


class Training:
    """A job behind the service: `step()` trains ten steps; answers as the API does."""

    def __init__(self, service: Any) -> None:
        self.steps = 0
        self.status = "running"
        self.events: list[dict[str, Any]] = []
        self.tell("Job started.", "message")
        self.service = service
        service.answers |= {
            f"GET {DATA}": lambda _: httpx.Response(200, json={"id": JOB, "status": self.status}),
            f"GET {DATA}/events": self.page_of_events,
            f"GET {OWN}/progress": self.progress,
            f"GET {OWN}/checkpoints": {"data": [{"id": "ftchkpt-1"}], "has_more": False},
        }

    def tell(self, message: str, kind: str) -> None:
        self.events.insert(0, {"id": f"ftevent-{len(self.events)}", "message": message, "type": kind, "level": "info"})

    def train(self) -> None:
        self.steps += 10
        self.tell(f"Step {self.steps}", "metrics")

    def end(self) -> None:
        self.status = "succeeded"
        self.tell("Job succeeded.", "message")

    def page_of_events(self, request: httpx.Request) -> httpx.Response:
        limit = int(request.url.params["limit"])
        return httpx.Response(200, json={"data": self.events[:limit], "has_more": len(self.events) > limit})

    def progress(self, request: httpx.Request) -> httpx.Response:
        known = int(request.url.params.get("after", 0))
        points = [{"step": step, "train_loss": 1.0} for step in range(known + 1, self.steps + 1)]
        body = {
            "status": self.status,
            "stage": "train",
            "last_event": self.events[0]["id"],
            "points": points,
            "after": str(self.steps) if self.steps else None,
            "has_more": False,
        }
        return httpx.Response(200, json=body)

    def looks(self) -> int:
        return self.service.asked().count(f"GET {OWN}/progress")


@pytest.fixture
def training(service: Any) -> Training:
    return Training(service)


@pytest.fixture
def api(wire: Wire, sessions: Sessions, training: Training) -> Api:
    session = Session("key", "KEY 1", "secret")
    return Api(wire, sessions, sessions.begin(session), session)


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():
            await asyncio.sleep(0.01)


def listening(followed: Following) -> tuple[Element, list[News]]:
    owner, heard = Element(), list[News]()
    followed.listen(cast(Any, owner), heard.append)
    return owner, heard


async def test_pages_share_one_look_and_hear_only_what_is_new(api: Api, training: Training) -> None:
    training.train()
    followed = Following(api, JOB)
    await followed.look()
    assert [point["step"] for point in followed.curves.points] == list(range(1, 11))
    pages = [listening(followed)[1] for _ in range(50)]
    training.train()
    looks = training.looks()
    followed.nudge()
    await until(lambda: all(pages))
    assert training.looks() == looks + 1
    for [news] in pages:
        assert [point["step"] for point in news.points] == list(range(11, 21))
        assert [event["message"] for event in news.events] == ["Step 20"]
        assert (news.job, news.checkpoints) == (False, False)


async def test_the_end_is_told_and_nobody_looks_again(api: Api, training: Training) -> None:
    followed = Following(api, JOB)
    await followed.look()
    _, heard = listening(followed)
    training.end()
    followed.nudge()
    await until(lambda: bool(heard))
    assert heard[0].job
    assert (followed.job["status"], followed.ended) == ("succeeded", True)
    looks = training.looks()
    listening(followed)
    followed.nudge()
    for _ in range(20):
        await asyncio.sleep(0)
    assert training.looks() == looks


async def test_a_page_that_was_left_is_told_nothing_and_the_last_one_ends_the_looking(
    api: Api, training: Training
) -> None:
    followed = Following(api, JOB)
    await followed.look()
    gone, unheard = listening(followed)
    _, heard = listening(followed)
    gone.is_deleted = True
    training.train()
    followed.nudge()
    await until(lambda: bool(heard))
    assert unheard == []


async def test_a_page_in_trouble_does_not_keep_the_news_from_the_others(api: Api, training: Training) -> None:
    followed = Following(api, JOB)
    await followed.look()

    def fail(news: News) -> None:
        raise RuntimeError("a page")

    followed.listen(cast(Any, Element()), fail)
    _, heard = listening(followed)
    training.train()
    followed.nudge()
    await until(lambda: bool(heard))
    assert heard[0].points


async def test_more_events_than_a_page_of_them_are_no_gap_that_nobody_can_see(api: Api, training: Training) -> None:
    followed = Following(api, JOB)
    await followed.look()
    assert not followed.older
    for _ in range(following.EVENTS_PAGE + 5):
        training.train()
    await followed.look()
    assert len(followed.events) == following.EVENTS_PAGE
    assert followed.older


async def test_two_pages_of_one_session_follow_the_same_job_and_a_refusal_reaches_the_page(
    api: Api, training: Training, service: Any
) -> None:
    visit = Visit(api, [], Words("en"), None)
    first = await follow(visit, JOB)
    assert await follow(visit, JOB) is first
    with pytest.raises(Refused):
        await follow(visit, "ftjob-unknown")
