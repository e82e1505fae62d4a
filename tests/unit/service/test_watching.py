"""Watching a job: its place, every step's numbers, what it will cost and has cost, and its lineage."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from datetime import timedelta
from decimal import Decimal

import pytest

from tailorbird.domain.errors import NotFound
from tailorbird.domain.jobs import EventKind, JobStatus, Stage
from tailorbird.domain.pricing import PriceList, Prices
from tailorbird.service.intake import NewJob
from tailorbird.service.jobs import event
from tailorbird.service.watching import Progress, Watching

OWNER = "worker-1"
HOURLY = PriceList("v", "USD", {"gpt-35-turbo": Prices(training_hour=Decimal(40))})


def look(house, job_id: str, after: str | None = None, prices: PriceList = HOURLY, limit: int = 100) -> Progress:
    return Watching(house.store, prices, house.clock).progress("acc", job_id, after=after, limit=limit)


async def test_every_step_is_seen_once_and_in_order_although_every_tenth_is_told(house) -> None:
    job = await house.pipeline().run(house.job(), OWNER)
    told = [e for e in house.events(job) if e.kind is EventKind.METRICS]
    assert [e.data["step"] for e in told] == [1, 10, 20, 30, 40]
    seen, after, more = [], None, True
    while more:
        found = look(house, job.id, after, limit=2)
        seen += found.points
        after, more = found.after, found.has_more
    assert [point["step"] for point in seen] == list(range(1, 41))
    assert seen[2] == {"step": 3, "train_loss": 0.333333, "train_mean_token_accuracy": 0.5}
    assert [point["step"] for point in seen if "full_valid_loss" in point] == [10, 20, 30, 40]
    assert look(house, job.id, after).points == []
    assert look(house, job.id, after).after == after


async def test_a_loss_that_is_no_number_is_left_out(house) -> None:
    job = house.job()
    with house.store.begin() as tx:
        data: dict[str, object] = {"step": 1, "train_loss": math.nan, "train_mean_token_accuracy": 0.5}
        tx.jobs.append_event(event(job, "step-1", EventKind.METRICS, house.clock.now(), data))
    assert look(house, job.id).points == [{"step": 1, "train_mean_token_accuracy": 0.5}]


def test_a_waiting_job_has_its_place_and_a_claimed_one_has_none(house, rows) -> None:
    file = house.upload(rows(12))
    first, second = (house.jobs.create("acc", NewJob("gpt-35-turbo-0613", file)) for _ in range(2))
    assert (look(house, first.id).place, look(house, second.id).place) == (1, 2)
    house.claim()
    assert (look(house, first.id).place, look(house, second.id).place) == (None, 1)
    found = look(house, second.id)
    assert (found.total_steps, found.expense, found.points, found.after) == (None, None, [], None)
    assert found.last_event == house.events(second)[-1].id


async def test_a_running_job_tells_what_it_will_cost_and_an_ended_one_what_it_cost(house) -> None:
    job = house.job()
    trainer = house.trainer(hang=True)
    task = asyncio.create_task(house.pipeline(trainer, prices=HOURLY).run(job, OWNER))
    await house.until(lambda: trainer.runs and trainer.runs[0].reached == 5)
    running = look(house, job.id)
    assert (running.job.status, running.total_steps) == (JobStatus.RUNNING, 24)  # 12 examples, 2 a step, 4 epochs
    assert running.expense is not None
    assert (running.expense.billed, running.expense.unit) == (False, "hours")
    assert running.expense.amount == 10  # a begun quarter of an hour
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    ended = await house.pipeline(prices=HOURLY).run(house.row(job), OWNER)
    assert ended.status is JobStatus.SUCCEEDED
    billed = look(house, job.id).expense
    assert billed is not None
    assert (billed.billed, billed.amount, billed.quantity, billed.currency) == (True, 10, Decimal("0.250"), "USD")


async def test_a_failed_job_costs_nothing_and_a_model_without_a_price_is_free(house) -> None:
    job = house.job()
    with house.store.begin() as tx:
        failed = dataclasses.replace(job, status=JobStatus.FAILED, stage=Stage.DONE, finished_at=house.clock.now())
        tx.jobs.save(failed, owner=OWNER)
    assert look(house, job.id).expense is None
    free = await house.pipeline().run(house.job(), OWNER)
    told = look(house, free.id, prices=PriceList()).expense
    assert told is not None
    assert (told.billed, told.amount, told.unit) == (True, 0, "tokens")


async def test_time_stands_still_when_a_job_has_ended(house) -> None:
    job = await house.pipeline().run(house.job(), OWNER)
    before = look(house, job.id).running
    house.clock.time += timedelta(hours=3)
    assert look(house, job.id).running == before > timedelta()


async def test_lineage_leads_from_a_job_to_those_before_and_after_it(house, rows) -> None:
    watching = Watching(house.store, HOURLY, house.clock)
    first = await house.pipeline().run(house.job(), OWNER)
    assert watching.lineage("acc", first.id).source is None
    again = house.jobs.create("acc", NewJob(first.fine_tuned_model, house.upload(rows(12))))
    assert [job.id for job in watching.lineage("acc", first.id).continued] == [again.id]
    source = watching.lineage("acc", again.id).source
    assert source is not None
    assert (source.job_id, source.name, source.step) == (first.id, first.fine_tuned_model, 40)


def test_nobody_elses_job_is_watched(house) -> None:
    job = house.job()
    for ask in (house.jobs.watching.lineage, lambda *who: house.jobs.watching.progress(*who, after=None, limit=1)):
        with pytest.raises(NotFound):
            ask("other", job.id)
