"""The list of jobs: searched, filtered, sorted, in pages; models with their deployments; a job's course in words."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.studio.job_lists import PAGE, Wish, chosen, deployed, moving, page_of, title_of, tuned
from tailorbird.studio.pages.job import course, facts
from tailorbird.studio.pages.job.curves import rows_of
from tailorbird.studio.words import LANGUAGES, Words


def job(number: int, status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    plain = {"id": f"ftjob-{number:032x}", "status": status, "model": "weaver", "created_at": 1000 + number}
    return {**plain, "hyperparameters": {}, "seed": 1, **fields}


def numbers(rows: list[Any]) -> list[int]:
    return [int(row["id"].removeprefix("ftjob-"), 16) for row in rows]


JOBS = [
    job(1, suffix="Zebra"),
    job(2, "running", model="gpt-4o"),
    job(3, "paused", suffix="apple"),
    job(4, "failed", training_file="file-abc"),
    job(5, "pending", suffix="mango"),
]


def test_the_newest_stand_first_unless_something_else_is_wanted() -> None:
    assert numbers(chosen(JOBS, Wish())) == [5, 4, 3, 2, 1]
    assert numbers(chosen(JOBS, Wish(descending=False))) == [1, 2, 3, 4, 5]
    assert numbers(chosen(JOBS, Wish(sort="name", descending=False))) == [3, 2, 5, 4, 1]
    assert numbers(chosen(JOBS, Wish(sort="model", descending=False))) == [2, 5, 4, 3, 1]
    assert numbers(chosen(JOBS, Wish(sort="status", descending=True))) == [1, 2, 5, 3, 4]


@pytest.mark.parametrize(
    ("wish", "found"),
    [
        (Wish(search="APPLE"), [3]),
        (Wish(search="abc file"), [4]),
        (Wish(search="weaver", state="active"), [5]),
        (Wish(state="active"), [5, 2]),
        (Wish(state="paused"), [3]),
        (Wish(search="nothing"), []),
    ],
)
def test_search_and_filter_narrow_the_list(wish: Wish, found: list[int]) -> None:
    assert numbers(chosen(JOBS, wish)) == found


def test_what_was_kept_of_an_older_version_does_no_harm() -> None:
    assert Wish.kept({}) == Wish()
    assert Wish.kept({"state": "gone", "sort": 7, "search": None, "descending": False}) == Wish(descending=False)
    assert Wish.kept({"state": "failed", "sort": "name", "search": "x"}) == Wish("x", "failed", "name", True)


def test_a_hundred_jobs_are_shown_in_pages_and_a_page_that_is_gone_is_the_last() -> None:
    rows = [job(number) for number in range(101)]
    assert [len(page_of(rows, number)[0]) for number in range(5)] == [25, 25, 25, 25, 1]
    assert page_of(rows, 99) == (rows[4 * PAGE :], 4, 5)
    assert page_of([], 3) == ([], 0, 1)


def test_a_list_is_asked_for_often_only_while_something_moves() -> None:
    assert moving(JOBS)
    assert not moving([job(1), job(2, "paused"), job(3, "failed"), job(4, "cancelled")])


def test_a_job_is_called_by_its_suffix_or_its_model_and_the_beginning_of_its_id() -> None:
    assert title_of(job(1, suffix="mine")) == "mine"
    assert title_of({"id": "ftjob-0123456789abcdef", "model": "weaver"}) == "weaver · 01234567"


def test_only_the_accounts_own_models_are_listed_with_where_they_are_deployed() -> None:
    models = [
        {"id": "weaver", "created_at": 1},
        {"id": "weaver.ft-1", "created_at": 2, "fine_tune": "ftjob-1"},
        {"id": "weaver.ft-2", "created_at": 3, "fine_tune": "ftjob-2"},
    ]
    assert [model["id"] for model in tuned(models)] == ["weaver.ft-2", "weaver.ft-1"]
    assert deployed([{"id": "a", "model": "m"}, {"id": "b", "model": "m"}]) == {"m": ["a", "b"]}


# --- one job ----------------------------------------------------------------------------------------------------------


def progress(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "status": "running", "stage": "train", "queue_position": None, "step": 30, "total_steps": 120,
        "running_seconds": 42.0, "estimated_finish": 1090, "finished_at": None, "cost": None,
    }  # fmt: skip
    return plain | fields


def test_a_running_job_tells_steps_time_and_what_is_left() -> None:
    assert course.figures(Words("en"), progress(), 1000.0) == [
        "step 30 of 120",
        "running for 42 s",
        "about 1 min 30 s left",
    ]
    assert "about" not in " ".join(course.figures(Words("en"), progress(stage="prove"), 1000.0))
    assert course.share_done(progress()) == 0.25
    assert course.share_done(progress(total_steps=None)) == 0
    assert course.share_done(progress(status="succeeded", step=60)) == 1, "an early stop is a success like any other"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_state_and_stage_has_its_words(language: str) -> None:
    t = Words(language)
    for state in ("pending", "running", "pausing", "paused", "resuming", "succeeded", "failed", "cancelled"):
        for stage in ("validate", "screen_data", "train", "pause", "prove", "screen_model", "register", "done"):
            assert course.sentence(t, progress(status=state, stage=stage))
    assert "3" in course.sentence(t, progress(status="pending", stage="validate", queue_position=3))


def test_cost_is_an_estimate_before_the_end_and_a_bill_after_it() -> None:
    told = {"billed": False, "quantity": "0.250", "unit": "hours", "amount": "10.00", "currency": "USD"}
    assert course.cost(Words("en"), told) == "will cost about: $10.00 (0.250 hours)"
    assert course.cost(Words("nl"), told | {"billed": True}) == "in rekening gebracht: $10,00 (0,250 uur)"
    free = told | {"quantity": "26396", "unit": "tokens", "amount": "0.00"}
    assert course.cost(Words("en"), free) == "free of charge (26,396 tokens)"


def test_only_a_job_that_trains_can_be_paused() -> None:
    assert course.pausable(progress())
    for other in ({"step": 0}, {"stage": "prove"}, {"status": "paused"}):
        assert not course.pausable(progress(**other))


def test_hyperparameters_come_from_the_method_where_there_is_one() -> None:
    plain = job(1, hyperparameters={"n_epochs": 3, "batch_size": -1, "learning_rate_multiplier": 0.5})
    assert facts.hyperparameters(Words("en"), plain) == [
        ("job.param_n_epochs", "3"),
        ("job.param_batch_size", "automatic"),
        ("job.param_learning_rate_multiplier", "0.5"),
    ]
    dpo = plain | {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}
    assert ("job.param_beta", "0.1") in facts.hyperparameters(Words("en"), dpo)
    assert ("job.method", "Direct preference optimization (DPO)") in facts.plain_facts(Words("en"), dpo, {})


def test_the_table_of_many_steps_keeps_the_ends_and_every_full_validation() -> None:
    points = [{"step": float(step)} | ({"full_valid_loss": 1.0} if step == 777 else {}) for step in range(1, 2001)]
    rows = rows_of(points)
    assert len(rows) < 250
    assert (rows[0]["step"], rows[-1]["step"]) == (2000, 1)
    assert points[776] in rows
    assert rows_of(points[:5]) == points[:5][::-1]
