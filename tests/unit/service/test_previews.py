"""Figures of files too long to count whole, pages that end early, and turns whose share cannot be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

import tailorbird
from tailorbird.dataset.render import Rendered
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.service import previews as module
from tailorbird.service.examples import _shares
from tailorbird.service.files import Files
from tailorbird.service.models import Catalogue, Models, load_catalogue
from tailorbird.service.previews import Previews

AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(Path(tailorbird.__file__).parent / "catalog.toml")


class OneFile:
    """A store of files with one in it, which counts how often it is read."""

    def __init__(self, data: bytes, examples: int | None) -> None:
        self.data = data
        self.reads = 0
        self.file = File(
            "file-1", "acc", "f.jsonl", Purpose.FINE_TUNE, len(data), FileStatus.PROCESSED, AT, "k",
            kind="chat", examples=examples,
        )  # fmt: skip

    def get(self, account_id: str, file_id: str) -> File:
        return self.file

    def content(self, file: File) -> Iterator[bytes]:
        self.reads += 1
        return (self.data[at : at + 1000] for at in range(0, len(self.data), 1000))


def previews_of(catalogue: Catalogue, data: bytes, examples: int | None = None) -> tuple[Previews, OneFile]:
    files = OneFile(data, examples)
    return Previews(cast("Files", files), cast("Models", None), catalogue), files


def lines(count: int, answer: str = "Blue.") -> bytes:
    turns = [{"role": "user", "content": "Which colour?"}, {"role": "assistant", "content": answer}]
    return (json.dumps({"messages": turns}) + "\n").encode() * count


def test_a_file_is_counted_once(catalogue: Catalogue) -> None:
    previews, files = previews_of(catalogue, lines(20), 20)
    first = previews.statistics("acc", "file-1", None)
    assert (first.examples, first.exact, first.unusable) == (20, True, 0)
    assert previews.statistics("acc", "file-1", None) == first
    assert files.reads == 1


def test_what_lies_behind_the_part_that_is_counted_is_taken_to_be_like_it(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lines(400)
    whole = previews_of(catalogue, data, 400)[0].statistics("acc", "file-1", None)
    # Cuts a line in two.
    monkeypatch.setattr(module, "_COUNTED_BYTES", len(data) // 4 + 30)
    part = previews_of(catalogue, data, 400)[0].statistics("acc", "file-1", None)
    assert (whole.exact, part.exact) == (True, False)
    assert (part.examples, part.unusable) == (400, 0)
    assert part.tokens == pytest.approx(whole.tokens, rel=0.02)
    assert part.learned == pytest.approx(whole.learned, rel=0.02)
    assert part.longest == whole.longest


def test_a_page_of_long_lines_ends_early(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAGE_BYTES", 3000)
    previews, _ = previews_of(catalogue, lines(20, "blue " * 200), 20)
    first = previews.preview("acc", "file-1", None, 0, 10)
    assert ([line.number for line in first.lines], first.has_more) == ([1, 2, 3], True)
    last = previews.preview("acc", "file-1", None, 18, 10)
    assert ([line.number for line in last.lines], last.has_more) == ([19, 20], False)


def test_every_turn_of_the_examples_has_its_share(catalogue: Catalogue) -> None:
    """The shares are what is left of the whole: nothing is counted twice or lost."""
    data = Path(__file__).parents[3].joinpath("examples/bookings.valid.jsonl").read_bytes()
    previews, _ = previews_of(catalogue, data)
    page = previews.preview("acc", "file-1", None, 0, 50)
    assert len(page.lines) >= 30
    for line in page.lines:
        [side] = line.sides
        assert sum(turn.learned or 0 for turn in side.turns) == side.learned
        assert side.learned
        assert all(turn.learned == 0 for turn in side.turns if not turn.trained)


def test_a_share_that_cannot_be_told_is_not_made_up(catalogue: Catalogue) -> None:
    renderer = catalogue.renderer("weaver")
    end = renderer.stop_token_ids[0]
    # Two turns without a header between them, the first of which ends with another token than answers do.
    merged = Rendered([101, 102, 103, 104, end], [0.0, 1.0, 1.0, 1.0, 1.0])
    assert _shares(merged, renderer, 2) is None
    assert _shares(merged, renderer, 1) == [4]
    parted = Rendered([101, 102, end, 104, end], [0.0, 1.0, 1.0, 1.0, 1.0])
    assert _shares(parted, renderer, 2) == [2, 2]


def test_a_reading_is_of_the_first_model_that_fits(catalogue: Catalogue) -> None:
    fitting: Any = module._first_fit
    assert fitting(catalogue.entries, "completion").completion
    assert fitting(catalogue.entries, "chat").chat
    assert fitting(catalogue.entries, None).tunable
    with pytest.raises(InvalidRequest, match="No model here"):
        fitting((), "chat")
