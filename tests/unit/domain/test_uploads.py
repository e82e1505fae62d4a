"""Every move an upload can make, and the clock that ends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain.errors import IllegalState
from tailorbird.domain.files import Purpose
from tailorbird.domain.uploads import MOVES, Upload, UploadStatus, check_move, status_at

S = UploadStatus
AT = datetime(2026, 11, 20, tzinfo=UTC)
UPLOAD = Upload("upload_1", "acc", "a", Purpose.BATCH, 1, "x/y", S.PENDING, AT, AT + timedelta(hours=1))


@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("current", S)
def test_only_a_pending_upload_moves(current: S, new: S) -> None:
    if current is S.PENDING and new is not S.PENDING:
        check_move(current, new)
        return
    with pytest.raises(IllegalState, match=f"is {current}"):
        check_move(current, new)


def test_every_state_has_a_row() -> None:
    assert set(MOVES) == set(S)


def test_a_pending_upload_expires_at_its_moment_and_an_ended_one_never() -> None:
    assert status_at(UPLOAD, UPLOAD.expires_at - timedelta(microseconds=1)) is S.PENDING
    assert status_at(UPLOAD, UPLOAD.expires_at) is S.EXPIRED
    assert status_at(replace(UPLOAD, status=S.COMPLETED), AT + timedelta(days=9)) is S.COMPLETED
