"""Rows and words of roles."""

from __future__ import annotations

from tailorbird.studio.pages.grants import RoleKind, holders_of, level_of, rows_of

SUBSCRIPTION = "/subscriptions/s"
ACCOUNT = f"{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"
OWNER = f"{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions/8e3a"
PRINCIPALS = [
    {"id": "2", "kind": "ServicePrincipal", "name": "build"},
    {"id": "1", "kind": "User", "name": "anna@example.org"},
]


def kind() -> RoleKind:
    allowed = {
        "actions": ["Microsoft.CognitiveServices/accounts/deployments/write"],
        "dataActions": ["Microsoft.CognitiveServices/accounts/OpenAI/files/read"],
    }
    return RoleKind.read({"id": OWNER, "properties": {"roleName": "Owner", "permissions": [allowed]}})


def test_a_role_says_shortly_what_it_allows() -> None:
    assert (kind().name, kind().short) == ("Owner", ("deployments/write", "OpenAI/files/read"))


def test_users_come_before_applications() -> None:
    assert [one.label for one in holders_of(PRINCIPALS).values()] == [
        "anna@example.org (User)",
        "build (ServicePrincipal)",
    ]


def assignment(principal: str, scope: str, definition: str = OWNER) -> dict[str, object]:
    return {"id": principal, "properties": {"principalId": principal, "roleDefinitionId": definition, "scope": scope}}


def test_somebody_from_outside_and_an_unknown_role_keep_their_ids() -> None:
    rows = rows_of(
        [assignment("9", ACCOUNT, "/x/roleDefinitions/FFFF"), assignment("1", SUBSCRIPTION)],
        [kind()],
        holders_of(PRINCIPALS),
    )
    assert [(row["name"], row["role"], row["level"]) for row in rows] == [
        ("9", "ffff", "account"),
        ("anna@example.org", "Owner", "subscription"),
    ]


def test_the_level_of_a_scope() -> None:
    assert [level_of(scope) for scope in (ACCOUNT, f"{SUBSCRIPTION}/resourceGroups/g/", SUBSCRIPTION)] == [
        "account",
        "group",
        "subscription",
    ]
