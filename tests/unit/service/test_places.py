"""A waiting job is told its place, once for each change."""

from __future__ import annotations

import pytest

from tailorbird.domain.jobs import EventKind, Job
from tailorbird.service.intake import NewJob
from tailorbird.service.places import Places


@pytest.fixture
def waiting(house, rows) -> list[Job]:
    file = house.upload(rows(12))
    return [house.jobs.create("acc", NewJob("gpt-35-turbo-0613", file)) for _ in range(3)]


def told(house, job: Job) -> list[object]:
    return [event.data["position"] for event in house.events(job) if event.kind is EventKind.POSITION]


def test_places_are_told_as_they_change_and_by_one_of_two_workers(house, waiting: list[Job]) -> None:
    ours, theirs = Places(house.store, house.clock), Places(house.store, house.clock)
    ours.tell()
    ours.tell()
    theirs.tell()
    assert [told(house, job) for job in waiting] == [[1], [2], [3]]
    house.claim()
    theirs.tell()
    ours.tell()
    assert [told(house, job) for job in waiting] == [[1], [2, 1], [3, 2]]
    house.jobs.cancel("acc", waiting[1].id)
    ours.tell()
    assert [told(house, job) for job in waiting] == [[1], [2, 1], [3, 2, 1]]
