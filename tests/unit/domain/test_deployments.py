"""Every move a deployment can make, and every one it cannot."""

from __future__ import annotations

import pytest

from tailorbird.domain.deployments import MOVES, SKUS, ProvisioningState, check_move, sku_called
from tailorbird.domain.errors import IllegalState

S = ProvisioningState
ALLOWED = {
    (S.CREATING, S.SUCCEEDED),
    (S.CREATING, S.FAILED),
    (S.CREATING, S.DELETING),
    (S.SUCCEEDED, S.CREATING),
    (S.SUCCEEDED, S.DELETING),
    (S.FAILED, S.CREATING),
    (S.FAILED, S.DELETING),
}


@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("current", S)
def test_a_move_is_made_or_refused_as_the_table_says(current: S, new: S) -> None:
    if (current, new) in ALLOWED:
        check_move(current, new)
        return
    with pytest.raises(IllegalState, match=f"that is {current} cannot become {new}"):
        check_move(current, new)


def test_every_state_has_a_row() -> None:
    assert set(MOVES) == set(S)


def test_states_carry_azures_names() -> None:
    assert {state.value for state in S} == {"Creating", "Succeeded", "Failed", "Deleting"}


@pytest.mark.parametrize("sku", SKUS)
def test_a_sku_is_known_in_any_case_and_answered_in_azures_spelling(sku: str) -> None:
    assert sku_called(sku.lower()) == sku_called(sku.upper()) == sku


def test_az_calls_the_developer_tier_developer() -> None:
    assert sku_called("developer") == "DeveloperTier"
    assert sku_called("Premium") is None
