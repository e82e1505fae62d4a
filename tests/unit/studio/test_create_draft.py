"""The wizard's draft: what is missing, where it stands, what it asks the service for."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.studio.pages.create import draft as drafts
from tailorbird.studio.words import catalogue

READY: dict[str, Any] = {"model": "gpt-4o-mini-2024-07-18", "training_file": "file-1"}


def test_a_job_needs_a_model_then_data_and_nothing_else() -> None:
    assert drafts.missing({}) == 1
    assert drafts.missing({"model": "weaver"}) == 2
    assert drafts.missing(READY) == drafts.REVIEW
    assert drafts.missing(READY | {"validation_source": "existing"}) == 3
    assert drafts.missing(READY | {"validation_source": "local", "validation_file": "file-2"}) == drafts.REVIEW
    assert drafts.missing(READY | {"suffix": "no dots."}) == 4


@pytest.mark.parametrize(
    ("draft", "asked", "step"),
    [
        ({}, "", 1),
        ({}, "5", 1),
        (READY, "3", 3),
        (READY, "6", 5),
        (READY, "0", 1),
        (READY, "two", 1),
        (READY | {"step": 4}, "", 4),
        (READY | {"step": 4, "model": ""}, "", 1),
    ],
)
def test_an_address_leads_to_its_step_unless_something_before_is_missing(
    draft: dict[str, Any], asked: str, step: int
) -> None:
    assert drafts.step_asked(draft, asked) == step


def test_a_link_fills_in_what_it_names_and_leaves_the_rest() -> None:
    draft: dict[str, Any] = {"suffix": "mine", "training_source": "url"}
    assert drafts.prefill(draft, "", "file-9") == 1
    assert draft == {"suffix": "mine", "training_source": "existing", "training_file": "file-9"}
    assert drafts.prefill(draft, "ftchkpt-1", "") == 2
    assert drafts.prefill(draft, "ftchkpt-1", "file-9") == 3


def test_what_was_left_open_is_left_to_the_service() -> None:
    assert drafts.body(READY | {"seed": " ", "suffix": "", "batch_size": "8"}) == READY


def test_custom_values_are_sent_as_numbers_and_decimals_may_have_a_comma() -> None:
    custom = READY | {"mode": "custom", "n_epochs": "3", "batch_size": "", "learning_rate_multiplier": "0,1"}
    asked = drafts.body(custom | {"seed": "105", "suffix": " bookings "})
    assert asked["hyperparameters"] == {"n_epochs": 3, "learning_rate_multiplier": 0.1}
    assert (asked["seed"], asked["suffix"]) == (105, "bookings")


def test_preference_training_says_its_method_with_its_own_values() -> None:
    dpo = READY | {"method": "dpo", "mode": "custom", "beta": "0.2", "n_epochs": "1"}
    assert drafts.body(dpo)["method"] == {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2}}}
    assert "beta" not in str(drafts.body(dpo | {"method": "supervised"}))


def test_validation_data_that_was_put_aside_again_is_kept_but_not_sent() -> None:
    chosen = READY | {"validation_source": "existing", "validation_file": "file-2"}
    assert drafts.body(chosen)["validation_file"] == "file-2"
    aside = chosen | {"validation_source": "none", "mode": "custom", "early_stop_patience": "2"}
    assert "validation_file" not in drafts.body(aside)
    assert "early_stop_patience" not in str(drafts.body(aside)), "there is nothing to compare losses on"
    assert drafts.body(aside | {"validation_source": "url"})["hyperparameters"] == {"early_stop_patience": 2}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("n_epochs", ("1", "50", ""), ("0", "51", "1.5", "-1", "many", "1e1")),
        ("batch_size", ("1", "256"), ("257", "4x")),
        ("early_stop_patience", ("1", "50"), ("51",)),
        ("learning_rate_multiplier", ("0.02", "2", "0,5"), ("0", "0.0", "-1", "1.2.3", "nan")),
        ("beta", ("0.1", "2"), ("0", "2.1")),
        ("seed", ("0", "2147483647"), ("2147483648", "-4")),
        ("suffix", ("my-model_2", "a" * 64), ("a.b", "a" * 65, "名前")),
    ],
)
def test_a_field_says_what_is_wrong_before_the_service_does(
    name: str, good: tuple[str, ...], bad: tuple[str, ...]
) -> None:
    assert [text for text in good if drafts.fault(name, text)] == []
    assert [text for text in bad if drafts.fault(name, text) not in catalogue("en")] == []


def test_a_fault_of_a_field_that_is_not_shown_stops_nobody() -> None:
    hidden = READY | {"batch_size": "999", "beta": "9"}
    assert drafts.missing(hidden) == drafts.REVIEW
    assert drafts.missing(hidden | {"mode": "custom"}) == 4


@pytest.mark.parametrize(
    ("param", "field", "step"),
    [
        ("model", "model", 1),
        ("training_file", "training_file", 2),
        ("validation_file", "validation_file", 3),
        ("hyperparameters.n_epochs", "n_epochs", 4),
        ("method.dpo.hyperparameters.beta", "beta", 4),
        ("method.type", "method", 4),
        ("integrations", "integrations", 5),
        ("", "", 5),
    ],
)
def test_a_refusal_leads_to_the_field_that_caused_it(param: str, field: str, step: int) -> None:
    assert (drafts.field_of(param), drafts.step_of(param)) == (field, step)
