"""The shapes of identifiers and names, as observed on either service."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.domain import ids

HEX = "0123456789abcdef" * 2
JOB = ids.job_id(HEX)


# A busy machine is no fault of the rule under test.
patient = settings(deadline=None)


def test_random_ids_have_a_prefix_and_32_hex_digits() -> None:
    assert (ids.file_id(HEX), JOB) == (f"file-{HEX}", f"ftjob-{HEX}")


@pytest.mark.parametrize(
    ("found", "prefix"),
    [
        (ids.checkpoint_id(JOB, 10), "ftchkpt-"),
        (ids.event_id(JOB, "step-10"), "ftevent-"),
        (ids.results_file_id(JOB), "file-"),
    ],
)
def test_derived_ids_have_the_same_shape(found: str, prefix: str) -> None:
    assert re.fullmatch(rf"{prefix}[0-9a-f]{{32}}", found)


def test_a_derived_id_is_the_same_every_time_and_another_for_everything_else() -> None:
    assert ids.checkpoint_id(JOB, 1) == ids.checkpoint_id(JOB, 1)
    assert ids.event_id(JOB, "a") == ids.event_id(JOB, "a")
    others = {
        ids.checkpoint_id(JOB, 1),
        ids.checkpoint_id(JOB, 2),
        ids.checkpoint_id(JOB + "0", 1),
        ids.event_id(JOB, "checkpoint/1"),
        ids.event_id(JOB, "1"),
        ids.results_file_id(JOB),
    }
    assert len({text.split("-", 1)[1] for text in others}) == 6


@pytest.mark.parametrize(
    ("suffix", "step", "azure", "openai"),
    [
        (None, None, f"base-1.ft-{HEX}", "ft:base-1:org::01234567"),
        ("mine", None, f"base-1.ft-{HEX}-mine", "ft:base-1:org:mine:01234567"),
        ("mine", 30, f"base-1.ft-{HEX}-mine:ckpt-step-30", "ft:base-1:org:mine:01234567:ckpt-step-30"),
        (None, 0, f"base-1.ft-{HEX}:ckpt-step-0", "ft:base-1:org::01234567:ckpt-step-0"),
    ],
)
def test_model_names_have_either_vendors_shape(suffix: str | None, step: int | None, azure: str, openai: str) -> None:
    assert ids.azure_model_name("base-1", JOB, suffix, step) == azure
    assert ids.openai_model_name("base-1", "org", JOB, suffix, step) == openai


@pytest.mark.parametrize("good", ["a", "A-b_9", "-", "x" * 64])
def test_a_suffix_is_taken(good: str) -> None:
    assert ids.is_suffix(good)


@pytest.mark.parametrize("bad", ["", "x" * 65, "with.dot", "a b", "ä", "a\n", "a:b", "a/b"])
def test_a_suffix_is_refused(bad: str) -> None:
    assert not ids.is_suffix(bad)


@pytest.mark.parametrize("good", ["d", "9", "my.model-v1_0", "x" * 64])
def test_a_resource_name_is_taken(good: str) -> None:
    assert ids.is_resource_name(good)


@pytest.mark.parametrize("bad", ["", "-a", ".a", "_a", "x" * 65, "a b", "a/b", "ä", "a\n"])
def test_a_resource_name_is_refused(bad: str) -> None:
    assert not ids.is_resource_name(bad)


@patient
@given(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.integers(1, 10**6))
def test_a_name_tells_base_job_and_suffix_apart_again(suffix: str, step: int) -> None:
    base, rest = ids.azure_model_name("gpt-4o", JOB, suffix, step).split(".ft-", 1)
    name, number = rest.split(":ckpt-step-")
    assert (base, name[:32], name[33:], int(number)) == ("gpt-4o", HEX, suffix, step)


def test_a_checkpoint_has_an_id_of_its_own_on_openai_s_surface_and_both_mean_it() -> None:
    stored = ids.checkpoint_id(JOB, 10)
    shown = ids.openai_checkpoint_id(stored)
    assert shown == "ftckpt_" + stored.removeprefix("ftchkpt-")
    assert ids.as_checkpoint_id(shown) == ids.as_checkpoint_id(stored) == stored
    assert ids.as_checkpoint_id("gpt-4o") == "gpt-4o"
