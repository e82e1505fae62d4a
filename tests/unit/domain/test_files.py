"""Every move a file can make, and every one it cannot."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import IllegalState
from tailorbird.domain.files import MAX_FILE_BYTES, MOVES, FileStatus, check_move

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


def test_a_file_may_be_as_large_as_on_azure() -> None:
    assert MAX_FILE_BYTES == 512 * 2**20
