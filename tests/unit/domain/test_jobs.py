"""Every move a job can make, and what "auto" becomes."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.domain.errors import IllegalState
from tailorbird.domain.jobs import (
    ENDED,
    MOVES,
    AutoRule,
    Hyperparameters,
    Job,
    JobStatus,
    Method,
    Stage,
    check_move,
    resolve,
)

S = JobStatus
SUPERVISED = Method.SUPERVISED
ALLOWED = {
    (S.VALIDATING, S.QUEUED),
    (S.VALIDATING, S.FAILED),
    (S.VALIDATING, S.CANCELLED),
    (S.QUEUED, S.RUNNING),
    (S.QUEUED, S.FAILED),
    (S.QUEUED, S.CANCELLED),
    (S.RUNNING, S.SUCCEEDED),
    (S.RUNNING, S.FAILED),
    (S.RUNNING, S.CANCELLED),
    (S.RUNNING, S.PAUSING),
    (S.PAUSING, S.PAUSED),
    (S.PAUSING, S.RUNNING),
    (S.PAUSING, S.FAILED),
    (S.PAUSING, S.CANCELLED),
    (S.PAUSED, S.RESUMING),
    (S.PAUSED, S.FAILED),
    (S.PAUSED, S.CANCELLED),
    (S.RESUMING, S.RUNNING),
    (S.RESUMING, S.FAILED),
    (S.RESUMING, S.CANCELLED),
    # A stage that runs again finds the job where it left it.
    (S.VALIDATING, S.VALIDATING),
    (S.QUEUED, S.QUEUED),
    (S.RUNNING, S.RUNNING),
    (S.PAUSING, S.PAUSING),
    (S.PAUSED, S.PAUSED),
    (S.RESUMING, S.RESUMING),
}
NOW = datetime(2026, 11, 21, tzinfo=UTC)
JOB = Job(
    "ftjob-1",
    "a",
    S.QUEUED,
    Stage.TRAIN,
    "m",
    "b",
    "file-1",
    1,
    Hyperparameters(),
    created_at=NOW,
    estimated_finish=NOW,
)


@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("current", S)
def test_a_move_is_made_or_refused_as_the_table_says(current: S, new: S) -> None:
    if (current, new) in ALLOWED:
        check_move(current, new)
        return
    with pytest.raises(IllegalState, match=f"that is {current} cannot become {new}"):
        check_move(current, new)


def test_every_state_has_a_row_and_ended_states_lead_nowhere() -> None:
    assert set(MOVES) == set(S)
    assert {state for state in S if not MOVES[state]} == ENDED


@pytest.mark.parametrize("status", S)
def test_a_job_has_ended_in_exactly_the_ended_states(status: S) -> None:
    assert replace(JOB, status=status).ended is (status in {S.SUCCEEDED, S.FAILED, S.CANCELLED})


def test_the_stages_stand_in_the_order_of_the_pipeline() -> None:
    assert [stage.value for stage in Stage] == [
        "validate",
        "screen_data",
        "train",
        "pause",
        "prove",
        "screen_model",
        "register",
        "done",
    ]


# --- auto -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "batch", "epochs"),
    [(10, 1, 25), (302, 1, 20), (3000, 6, 2), (6000, 12, 1), (100_000, 200, 1), (1_000_000, 256, 1)],
)
def test_auto_follows_azures_rule_of_two_in_a_thousand(examples: int, batch: int, epochs: int) -> None:
    resolved = resolve(Hyperparameters(), examples, AutoRule(), SUPERVISED)
    assert resolved == Hyperparameters(n_epochs=epochs, batch_size=batch, learning_rate_multiplier=1.0)


def test_an_operators_floor_for_the_batch_holds() -> None:
    assert resolve(Hyperparameters(), 12, AutoRule(min_batch_size=8), SUPERVISED).batch_size == 8


# A busy machine is no fault of the rule under test.
patient = settings(deadline=None)
numbers = st.integers(1, 10_000)
asked = st.builds(
    Hyperparameters,
    n_epochs=st.none() | st.integers(1, 50),
    batch_size=st.none() | st.integers(1, 256),
    learning_rate_multiplier=st.none() | st.floats(1e-6, 100),
)


@st.composite
def rules(draw: st.DrawFn) -> AutoRule:
    batches, epochs = (sorted(draw(st.tuples(st.integers(1, top), st.integers(1, top)))) for top in (256, 50))
    return AutoRule(
        batch_fraction=draw(st.floats(1e-5, 1)),
        min_batch_size=batches[0],
        max_batch_size=batches[1],
        seen_examples=draw(numbers),
        min_epochs=epochs[0],
        max_epochs=epochs[1],
    )


@patient
@given(asked, numbers, rules())
def test_what_was_asked_for_is_kept_and_the_rest_becomes_a_number_within_the_rule(
    wanted: Hyperparameters, examples: int, rule: AutoRule
) -> None:
    found = resolve(wanted, examples, rule, SUPERVISED)
    assert found.n_epochs is not None
    assert found.batch_size is not None
    assert found.learning_rate_multiplier == (wanted.learning_rate_multiplier or 1.0)
    if wanted.n_epochs is not None:
        assert found.n_epochs == wanted.n_epochs
    else:
        assert rule.min_epochs <= found.n_epochs <= rule.max_epochs
        enough = found.n_epochs * examples >= rule.seen_examples
        assert enough or found.n_epochs == rule.max_epochs
    if wanted.batch_size is not None:
        assert found.batch_size == wanted.batch_size
    else:
        assert min(rule.min_batch_size, examples) <= found.batch_size <= min(rule.max_batch_size, examples)


@patient
@given(numbers, rules())
def test_resolving_what_is_resolved_changes_nothing(examples: int, rule: AutoRule) -> None:
    once = resolve(Hyperparameters(), examples, rule, SUPERVISED)
    assert resolve(once, examples + 1, rule, SUPERVISED) == once


@patient
@given(st.integers(1, 5000), rules())
def test_more_examples_never_mean_a_smaller_batch_or_more_epochs(examples: int, rule: AutoRule) -> None:
    few, many = (resolve(Hyperparameters(), count, rule, SUPERVISED) for count in (examples, examples * 2))
    assert (few.batch_size or 0) <= (many.batch_size or 0)
    assert (few.n_epochs or 0) >= (many.n_epochs or 0)


def test_epochs_show_the_model_at_least_the_examples_of_the_rule() -> None:
    assert resolve(Hyperparameters(), 700, AutoRule(seen_examples=6000), SUPERVISED).n_epochs == math.ceil(6000 / 700)


@pytest.mark.parametrize(
    ("asked", "method", "beta"),
    [
        (None, Method.DPO, 0.1),
        (0.4, Method.DPO, 0.4),
        (None, SUPERVISED, None),
    ],
)
def test_beta_is_a_tenth_where_preference_training_leaves_it_open(
    asked: float | None, method: Method, beta: float | None
) -> None:
    assert resolve(Hyperparameters(beta=asked), 100, AutoRule(), method).beta == beta


def test_running_time_leaves_out_what_was_before_training_and_every_pause() -> None:
    later = NOW + timedelta(hours=10)
    assert JOB.running_time(later) == timedelta()
    running = replace(JOB, started_at=NOW + timedelta(hours=1), paused_seconds=3600.0)
    assert running.running_time(later) == timedelta(hours=8)
    assert replace(running, paused_at=NOW + timedelta(hours=5)).running_time(later) == timedelta(hours=3)
