"""Thresholds are read and applied; the sentences are Azure's."""

from __future__ import annotations

import pytest

from tailorbird.domain.safety import Category, Severity, Thresholds, data_message, model_message

SAFE = dict.fromkeys(Category, Severity.SAFE)


def test_the_default_threshold_is_met_by_medium_and_not_by_low() -> None:
    thresholds = Thresholds.parse("medium")
    assert thresholds.harms(SAFE | {Category.SEXUAL: Severity.LOW}) == frozenset()
    assert thresholds.harms(SAFE | {Category.SEXUAL: Severity.MEDIUM}) == {Category.SEXUAL}


def test_a_category_may_have_a_threshold_of_its_own() -> None:
    thresholds = Thresholds.parse("low, violence=high")
    assert thresholds.levels[Category.VIOLENCE] is Severity.HIGH
    assert thresholds.levels[Category.SELF_HARM] is Severity.LOW


@pytest.mark.parametrize("text", ["safe", "", "medium,violence", "medium,spam=high", "violence=very"])
def test_what_is_no_threshold_is_refused_by_its_part(text: str) -> None:
    with pytest.raises(ValueError, match="is not a threshold"):
        Thresholds.parse(text)


def test_the_message_about_data_lists_categories_alphabetically() -> None:
    assert data_message({"violence", "self_harm", "hate_fairness"}) == (
        "The provided training data failed RAI checks for harm types: [hate_fairness, self_harm, violence]. "
        "Please fix the data and try again."
    )


def test_the_message_about_a_model_is_azures() -> None:
    assert model_message(("self_harm", "violence")) == (
        "This model is unable to be deployed. Model evaluation identified that this fine tuned model scores above "
        "acceptable thresholds for [Violence, Self Harm]. Please review your training data set and resubmit the job."
    )
