"""Model rows are values."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from tailorbird.domain.jobs import AutoRule
from tailorbird.domain.models import BaseModel, CatalogueEntry, TunedModel

NOW = datetime(2026, 11, 21, tzinfo=UTC)
ROWS = (
    BaseModel("weaver", "weaver", 2e-3, 1024, 16, 32),
    CatalogueEntry("gpt-4-0613", "weaver", "gpt-4", "0613", True, False, NOW),
    TunedModel("base.ft-1", "ft:base:org::1", "a", "ftjob-1", "ftchkpt-1", "base", "weaver", "hash", NOW),
)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_equal_to_its_copy_hashable_and_unchangeable(row: BaseModel | CatalogueEntry | TunedModel) -> None:
    copy = dataclasses.replace(row)
    assert copy == row
    assert hash(copy) == hash(row)
    first = dataclasses.fields(row)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(copy, first, "other")


def test_a_base_without_a_rule_of_its_own_has_azures() -> None:
    assert BaseModel("weaver", "weaver", 2e-3, 1024, 16, 32).auto == AutoRule()


def test_an_entry_without_dates_is_never_retired() -> None:
    entry = CatalogueEntry("gpt-4-0613", "weaver", "gpt-4", "0613", True, False, NOW)
    assert (entry.fine_tune_until, entry.inference_until) == (None, None)
