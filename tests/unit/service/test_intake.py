"""Room in an account, and what a new job may ask for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tailorbird.domain.errors import InvalidRequest, QuotaExceeded
from tailorbird.domain.jobs import JobStatus, WandbIntegration
from tailorbird.service.intake import NewJob
from tailorbird.service.jobs import Jobs

WANDB = (WandbIntegration("project"),)


@pytest.fixture
def new(house, rows) -> NewJob:
    return NewJob("gpt-35-turbo-0613", house.upload(rows(12)))


def jobs(house, queued: int = 20, total: int = 100, tracking: bool = False) -> Jobs:
    return Jobs(house.store, house.catalogue, house.clock, house._hex, queued, total, tracking)


def test_waiting_jobs_are_limited_and_running_or_paused_ones_are_not_waiting(house, new: NewJob) -> None:
    service = jobs(house, queued=2)
    first = service.create("acc", new)
    service.create("acc", new)
    with pytest.raises(QuotaExceeded, match="2 fine-tuning jobs that wait"):
        service.create("acc", new)
    for status in (JobStatus.RUNNING, JobStatus.PAUSED):
        with house.store.begin() as tx:
            job = tx.jobs.get(None, first.id)
            tx.jobs.save(type(job)(**{f: getattr(job, f) for f in job.__slots__} | {"status": status}), owner=None)
        third = service.create("acc", new)
        service.cancel("acc", third.id)


def test_jobs_are_limited_in_all_until_an_ended_one_is_deleted(house, new: NewJob) -> None:
    service = jobs(house, total=2)
    ended = [service.cancel("acc", service.create("acc", new).id) for _ in range(2)]
    with pytest.raises(QuotaExceeded, match="ended ones included"):
        service.create("acc", new)
    service.delete("acc", ended[0].id)
    assert service.create("acc", new)


def test_two_who_create_at_once_do_not_both_take_the_last_place(house, new: NewJob) -> None:
    service = jobs(house, queued=3)
    barrier = threading.Barrier(6)

    def create(_: int) -> bool:
        barrier.wait()
        try:
            service.create("acc", new)
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(create, range(6))) == 3


def test_an_integration_that_is_not_installed_is_refused_naming_the_extra(house, new: NewJob) -> None:
    asked = NewJob(new.model, new.training_file, integrations=WANDB)
    with pytest.raises(InvalidRequest, match=r"tailorbird\[wandb\]") as caught:
        jobs(house).create("acc", asked)
    assert caught.value.param == "integrations"
    assert jobs(house, tracking=True).create("acc", asked).integrations == WANDB
