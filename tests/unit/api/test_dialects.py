from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.api.dialects import AZURE, AZURE_PROJECT, AZURE_V1, DIALECTS, OPENAI, Family, dialect_of, family_of
from tailorbird.domain.files import FileStatus
from tailorbird.domain.jobs import EventKind, EventLevel, JobEvent, JobStatus


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/openai/files", AZURE),
        ("/openai", AZURE),
        ("/openai/v1/files", AZURE_V1),
        ("/openai/v1", AZURE_V1),
        ("/openai/v12/files", AZURE),
        ("/api/projects/p/openai/v1/files", AZURE_PROJECT),
        ("/v1/files", OPENAI),
        ("/v10/files", None),
        ("/subscriptions/s", None),
        ("/openainot", None),
    ],
)
def test_a_path_belongs_to_the_longest_prefix(path, dialect):
    assert dialect_of(path) is dialect
    assert family_of(path) is (dialect.family if dialect else Family.ARM)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_state_level_and_event_has_a_word(dialect):
    assert set(dialect.words.job_status) == set(JobStatus)
    assert set(dialect.words.file_status) == set(FileStatus)
    assert set(dialect.words.level) == set(EventLevel)
    assert set(dialect.words.events) | {EventKind.METRICS} == set(EventKind)


@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_event_without_its_data_still_has_a_sentence(dialect, kind):
    event = JobEvent("i", "j", "k", kind, EventLevel.INFO, datetime(2026, 1, 1, tzinfo=UTC))
    assert dialect.event_text(event)


def test_the_validation_file_is_named_when_there_is_one():
    data: dict[str, object] = {"training_file": "file-a", "validation_file": None}
    event = JobEvent("i", "j", "k", EventKind.VALIDATING, EventLevel.INFO, datetime(2026, 1, 1, tzinfo=UTC), data)
    assert OPENAI.event_text(event) == "Validating training file: file-a"
    data["validation_file"] = "file-b"
    assert OPENAI.event_text(event) == "Validating training file: file-a and validation file: file-b"


def test_only_openai_keeps_nulls():
    assert AZURE.trim({"a": None, "b": 0}) == {"b": 0}
    assert OPENAI.trim({"a": None, "b": 0}) == {"a": None, "b": 0}


def test_the_rates_of_a_model_are_read_as_shares() -> None:
    data: dict[str, object] = {"rates": {"self_harm": 0.125, "violence": 0.0}, "base_rates": {}}
    event = JobEvent("i", "j", "k", EventKind.MODEL_RATED, EventLevel.INFO, datetime(2026, 1, 1, tzinfo=UTC), data)
    expected = "Harmful conversations: self_harm 12.5 %, violence 0 %; of the base: none."
    assert AZURE.event_text(event).endswith(expected)
