"""Every move a file can make, and every one it cannot."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import IllegalState, InvalidRequest
from tailorbird.domain.files import (
    MAX_FILE_BYTES,
    MOVES,
    UPLOADABLE,
    FileStatus,
    Purpose,
    check_expiry,
    check_move,
    check_purpose,
)

S = FileStatus
ALLOWED = {
    (S.PENDING, S.RUNNING),
    (S.PENDING, S.ERROR),
    (S.RUNNING, S.RUNNING),
    (S.RUNNING, S.PROCESSED),
    (S.RUNNING, S.ERROR),
}


@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("current", S)
def test_a_move_is_made_or_refused_as_the_table_says(current: S, new: S) -> None:
    if (current, new) in ALLOWED:
        check_move(current, new)
        return
    with pytest.raises(IllegalState, match=f"that is {current} cannot become {new}"):
        check_move(current, new)


def test_every_state_has_a_row_and_the_last_two_are_the_end() -> None:
    assert set(MOVES) == set(S)
    assert [state for state in S if not MOVES[state]] == [S.PROCESSED, S.ERROR]


def test_every_purpose_is_uploadable_or_not() -> None:
    assert set(UPLOADABLE) == set(Purpose)
    for purpose, uploadable in UPLOADABLE.items():
        if uploadable:
            assert check_purpose(purpose.value) is purpose
            continue
        with pytest.raises(InvalidRequest, match="not a purpose files can be uploaded for"):
            check_purpose(purpose.value)


@pytest.mark.parametrize("seconds", [3599, 2_592_001, True, "3600", 3600.0, None])
def test_a_life_is_a_whole_number_of_seconds_from_an_hour_to_thirty_days(seconds: object) -> None:
    assert check_expiry("created_at", 3600).total_seconds() == 3600
    assert check_expiry("created_at", 2_592_000).days == 30
    with pytest.raises(InvalidRequest) as caught:
        check_expiry("created_at", seconds)
    assert caught.value.param == "expires_after.seconds"


def test_a_file_may_be_as_large_as_on_azure() -> None:
    assert MAX_FILE_BYTES == 512 * 2**20
