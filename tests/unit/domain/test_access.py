"""Who may do what, against Azure's table of roles (role-based-access-control, 2025-02) and scopes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.domain.access import (
    CONTROL_ACTIONS,
    DATA_ACTIONS,
    ROLE_ACTIONS,
    ROLE_IDS,
    Account,
    Action,
    Assignment,
    Principal,
    Role,
    allows,
    allows_at,
    role_named,
)

ACCOUNT = Account("a1", "SUB", "Group", "Name", "local", "OpenAI", "k1", "k2", datetime(2026, 11, 21, tzinfo=UTC))
OTHER = Account("a2", "SUB", "Group", "Name2", "local", "OpenAI", "k3", "k4", datetime(2026, 11, 21, tzinfo=UTC))

# Azure's table (CONTRACT 10): OpenAI User, OpenAI Contributor, Cognitive Services Contributor, Usages Reader.
COLUMNS = (Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR, Role.COGNITIVE_CONTRIBUTOR, Role.USAGES_READER)
VIEW = (True, True, True, False)
INFER = (True, True, False, False)
TUNE = (False, True, True, False)
KEYS = (False, False, True, False)
QUOTA = (False, False, False, True)
NONE = (False, False, False, False)
AZURE = {
    Action.READ_ACCOUNT: VIEW,
    Action.READ_DEPLOYMENT: VIEW,
    Action.READ_MODEL: VIEW,
    Action.READ_FILE: VIEW,
    Action.READ_JOB: VIEW,
    Action.READ_EVAL: VIEW,
    Action.READ_ROLE: VIEW,
    Action.CHAT: INFER,
    Action.COMPLETE: INFER,
    Action.EMBED: INFER,
    Action.WRITE_DEPLOYMENT: TUNE,
    Action.DELETE_DEPLOYMENT: TUNE,
    Action.WRITE_JOB: TUNE,
    Action.CANCEL_JOB: TUNE,
    Action.DELETE_JOB: TUNE,
    Action.IMPORT_FILE: TUNE,
    Action.WRITE_UPLOAD: TUNE,
    Action.DELETE_FILE: TUNE,
    Action.DELETE_MODEL: TUNE,
    Action.WRITE_EVAL: TUNE,
    Action.DELETE_EVAL: TUNE,
    Action.READ_COMPLETION: TUNE,
    Action.WRITE_COMPLETION: TUNE,
    Action.LIST_KEYS: KEYS,
    Action.REGENERATE_KEY: KEYS,
    Action.WRITE_ACCOUNT: KEYS,
    Action.DELETE_ACCOUNT: KEYS,
    Action.READ_GROUP: KEYS,
    Action.READ_USAGES: QUOTA,
    Action.WRITE_GROUP: NONE,
    Action.DELETE_GROUP: NONE,
    Action.WRITE_ROLE: NONE,
    Action.DELETE_ROLE: NONE,
    Action.READ_AUDIT: NONE,
}


def holder(role: Role, scope: str) -> Principal:
    return Principal("id", "name", (Assignment(role, scope),))


@pytest.mark.parametrize("action", Action)
def test_every_role_may_what_azures_table_says(action: Action) -> None:
    found = tuple(allows(holder(role, ACCOUNT.resource_id), action, ACCOUNT) for role in COLUMNS)
    assert found == AZURE[action]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (Role.OWNER, CONTROL_ACTIONS, DATA_ACTIONS),
        (
            Role.CONTRIBUTOR,
            CONTROL_ACTIONS - {Action.WRITE_ROLE, Action.DELETE_ROLE, Action.READ_AUDIT},
            DATA_ACTIONS | {Action.WRITE_ROLE, Action.DELETE_ROLE, Action.READ_AUDIT},
        ),
        (
            Role.READER,
            {Action.READ_ACCOUNT, Action.READ_USAGES, Action.READ_ROLE},
            {Action.LIST_KEYS, Action.READ_AUDIT, *DATA_ACTIONS},
        ),
        (Role.COGNITIVE_USER, DATA_ACTIONS | {Action.LIST_KEYS}, {Action.WRITE_DEPLOYMENT, Action.WRITE_ACCOUNT}),
        (Role.AI_USER, DATA_ACTIONS | {Action.READ_DEPLOYMENT}, {Action.WRITE_DEPLOYMENT, Action.WRITE_ROLE}),
        (Role.AI_OWNER, DATA_ACTIONS | {Action.WRITE_DEPLOYMENT, Action.WRITE_ACCOUNT}, {Action.WRITE_ROLE}),
        (Role.AI_ACCOUNT_OWNER, {Action.WRITE_DEPLOYMENT, Action.WRITE_ACCOUNT}, DATA_ACTIONS),
        (Role.AI_PROJECT_MANAGER, DATA_ACTIONS | {Action.WRITE_DEPLOYMENT}, {Action.WRITE_ACCOUNT}),
        (Role.AI_DEVELOPER, DATA_ACTIONS, {Action.READ_ACCOUNT, Action.WRITE_DEPLOYMENT}),
    ],
)
def test_the_other_roles_reach_data_control_or_both(role: Role, may: set[Action], may_not: set[Action]) -> None:
    assert may <= ROLE_ACTIONS[role]
    assert not may_not & ROLE_ACTIONS[role]


def test_every_role_has_its_actions_and_an_id_of_its_own() -> None:
    assert set(ROLE_ACTIONS) == set(Role) == set(ROLE_IDS)
    assert len(set(ROLE_IDS.values())) == len(Role)


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("Cognitive Services OpenAI Contributor", Role.OPENAI_CONTRIBUTOR),
        ("cognitive services openai user", Role.OPENAI_USER),
        ("8E3AF657-a8ff-443c-a75c-2fe8c4bcb635", Role.OWNER),
        ("Foundry User", Role.AI_USER),
        ("Azure AI Owner", Role.AI_OWNER),
        ("foundry owner", Role.AI_OWNER),
        ("Foundry Developer", None),
        ("Chief", None),
        ("", None),
    ],
)
def test_a_role_is_named_by_either_name_or_by_its_id(text: str, role: Role | None) -> None:
    assert role_named(text) is role


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
    assert allows(holder(Role.OWNER, scope), Action.READ_ACCOUNT, ACCOUNT) is covers


def test_an_account_whose_name_begins_like_another_is_not_covered() -> None:
    assert not allows(holder(Role.OWNER, ACCOUNT.resource_id), Action.READ_ACCOUNT, OTHER)


def test_without_a_role_nothing_is_allowed() -> None:
    assert not any(allows(Principal("id", "name"), action, ACCOUNT) for action in Action)


def test_several_roles_add_up() -> None:
    both = Principal(
        "id",
        "name",
        (
            Assignment(Role.OPENAI_USER, "/subscriptions/sub"),
            Assignment(Role.COGNITIVE_CONTRIBUTOR, ACCOUNT.resource_id),
        ),
    )
    assert all(allows(both, action, ACCOUNT) for action in (Action.CHAT, Action.LIST_KEYS, Action.WRITE_JOB))
    assert allows(both, Action.CHAT, OTHER)
    assert not allows(both, Action.WRITE_JOB, OTHER)


@pytest.mark.parametrize("action", Action)
def test_a_key_opens_its_own_data_plane_and_nothing_else(action: Action) -> None:
    key = Principal("key", "key1", key_account=ACCOUNT.id)
    assert allows(key, action, ACCOUNT) is (action in DATA_ACTIONS)
    assert not allows(key, action, OTHER)


def test_a_resource_id_has_arms_shape() -> None:
    assert ACCOUNT.resource_id == (
        "/subscriptions/SUB/resourceGroups/Group/providers/Microsoft.CognitiveServices/accounts/Name"
    )


def test_a_key_holds_no_role_at_any_scope() -> None:
    key = Principal("key", "key1", key_account=ACCOUNT.id)
    assert not any(allows_at(key, action, ACCOUNT.resource_id) for action in Action)


def test_an_organization_id_is_stable_and_one_accounts_own() -> None:
    assert ACCOUNT.organization_id == ACCOUNT.organization_id != OTHER.organization_id
    assert ACCOUNT.organization_id.startswith("org-")
    assert ACCOUNT.id not in ACCOUNT.organization_id


def test_data_actions_are_told_apart_by_their_names() -> None:
    assert {action for action in Action if "/accounts/OpenAI/" in action} == DATA_ACTIONS
