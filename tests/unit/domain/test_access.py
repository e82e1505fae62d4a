"""Who may do what, against Azure's table of roles (role-based-access-control, 2025-02) and scopes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.domain.access import ROLE_ACTIONS, Account, Action, Assignment, Principal, Role, allows

ACCOUNT = Account("a1", "SUB", "Group", "Name", "local", "OpenAI", "k1", "k2", datetime(2026, 11, 21, tzinfo=UTC))
OTHER = Account("a2", "SUB", "Group", "Name2", "local", "OpenAI", "k3", "k4", datetime(2026, 11, 21, tzinfo=UTC))

# Rows of Azure's table: what OpenAI User, OpenAI Contributor and Cognitive Services Contributor may do.
VIEW = (True, True, True)
INFER = (True, True, False)
TUNE = (False, True, True)
KEYS = (False, False, True)
AZURE = {
    Action.READ_ACCOUNT: VIEW,
    Action.READ_DEPLOYMENT: VIEW,
    Action.READ_MODEL: VIEW,
    Action.READ_FILE: VIEW,
    Action.READ_JOB: VIEW,
    Action.CHAT: INFER,
    Action.COMPLETE: INFER,
    Action.WRITE_DEPLOYMENT: TUNE,
    Action.DELETE_DEPLOYMENT: TUNE,
    Action.WRITE_JOB: TUNE,
    Action.CANCEL_JOB: TUNE,
    Action.IMPORT_FILE: TUNE,
    Action.DELETE_FILE: TUNE,
    Action.DELETE_MODEL: TUNE,
    Action.LIST_KEYS: KEYS,
}
CONTROL_PLANE = {
    Action.READ_ACCOUNT,
    Action.LIST_KEYS,
    Action.READ_DEPLOYMENT,
    Action.WRITE_DEPLOYMENT,
    Action.DELETE_DEPLOYMENT,
}


def holder(role: Role, scope: str) -> Principal:
    return Principal("id", "name", (Assignment(role, scope),))


@pytest.mark.parametrize("action", Action)
def test_every_role_may_what_azures_table_says(action: Action) -> None:
    columns = (Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR)
    found = tuple(allows(holder(role, ACCOUNT.resource_id), action, ACCOUNT) for role in columns)
    assert found == AZURE[action]
    assert allows(holder(Role.OWNER, ACCOUNT.resource_id), action, ACCOUNT)


def test_every_role_has_its_actions() -> None:
    assert set(ROLE_ACTIONS) == set(Role)


def test_roles_carry_azures_names() -> None:
    assert {str(role) for role in Role} == {
        "Cognitive Services OpenAI User",
        "Cognitive Services OpenAI Contributor",
        "Cognitive Services Contributor",
        "Owner",
    }


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        (ACCOUNT.resource_id, True),
        (ACCOUNT.resource_id.upper(), True),
        (f"{ACCOUNT.resource_id}/", True),
        ("/subscriptions/SUB/resourceGroups/Group", True),
        ("/subscriptions/sub/resourcegroups/group/", True),
        ("/subscriptions/sub", True),
        ("/", True),
        ("/subscriptions/SU", False),
        ("/subscriptions/SUB/resourceGroups/Gro", False),
        ("/subscriptions/other", False),
        ("/subscriptions/SUB/resourceGroups/Other", False),
        (f"{ACCOUNT.resource_id}/deployments/d", False),
        (OTHER.resource_id, False),
        (ACCOUNT.resource_id[:-1], False),
    ],
)
def test_a_role_counts_at_its_scope_and_below_and_nowhere_else(scope: str, covers: bool) -> None:
    assert allows(holder(Role.OWNER, scope), Action.READ_FILE, ACCOUNT) is covers


def test_an_account_whose_name_begins_like_another_is_not_covered() -> None:
    assert not allows(holder(Role.OWNER, ACCOUNT.resource_id), Action.READ_FILE, OTHER)


def test_without_a_role_nothing_is_allowed() -> None:
    assert not any(allows(Principal("id", "name"), action, ACCOUNT) for action in Action)


def test_several_roles_add_up() -> None:
    both = Principal(
        "id",
        "name",
        (Assignment(Role.OPENAI_USER, "/subscriptions/sub"), Assignment(Role.CONTRIBUTOR, ACCOUNT.resource_id)),
    )
    assert all(allows(both, action, ACCOUNT) for action in (Action.CHAT, Action.LIST_KEYS, Action.WRITE_JOB))
    assert allows(both, Action.CHAT, OTHER)
    assert not allows(both, Action.WRITE_JOB, OTHER)


@pytest.mark.parametrize("action", Action)
def test_a_key_opens_its_own_data_plane_and_nothing_else(action: Action) -> None:
    key = Principal("key", "key1", key_account=ACCOUNT.id)
    assert allows(key, action, ACCOUNT) is (action not in CONTROL_PLANE)
    assert not allows(key, action, OTHER)


def test_a_resource_id_has_arms_shape() -> None:
    assert ACCOUNT.resource_id == (
        "/subscriptions/SUB/resourceGroups/Group/providers/Microsoft.CognitiveServices/accounts/Name"
    )


def test_data_actions_are_told_apart_by_their_names() -> None:
    assert {action for action in Action if "/accounts/OpenAI/" not in action} == CONTROL_PLANE
