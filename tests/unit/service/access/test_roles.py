"""Role assignments: given once, listed by scope and holder, taken away."""

from __future__ import annotations

import pytest

from tailorbird.domain.access import ROLE_IDS, Role
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound
from tailorbird.service.access import Access

SUB = "/subscriptions/s"
GROUP = f"{SUB}/resourceGroups/g"
ACCOUNT = f"{GROUP}/providers/Microsoft.CognitiveServices/accounts/a"
NAME = "11111111-1111-1111-1111-111111111111"


def give(access: Access, holder: str, role: str, scope: str, name: str | None = None):
    return access.roles.assign(holder, role, scope, by="test", grant_id=name)


def test_an_assignment_is_found_by_its_id_at_its_scope_and_nowhere_else(access: Access) -> None:
    made, created = give(access, "oid", f"{SUB}/providers/x/roleDefinitions/{ROLE_IDS[Role.OWNER]}", GROUP, NAME)
    assert (created, made.role, made.object_id) == (True, Role.OWNER, "oid")
    assert access.roles.get(GROUP.upper(), NAME) == made
    for scope in (SUB, ACCOUNT):
        with pytest.raises(NotFound):
            access.roles.get(scope, NAME)
        assert access.roles.remove(scope, NAME) is None
    assert access.roles.remove(GROUP, NAME) == made
    assert access.roles.list() == []


def test_the_same_again_is_fine_and_anything_else_under_the_id_is_not(access: Access) -> None:
    made, _ = give(access, "oid", "Owner", GROUP, NAME)
    assert give(access, "oid", "Owner", f"{GROUP}/", NAME) == (made, False)
    with pytest.raises(Conflict) as caught:
        give(access, "oid", "Reader", GROUP, NAME)
    assert caught.value.code == "RoleAssignmentUpdateNotPermitted"
    with pytest.raises(Conflict) as caught:
        give(access, "oid", "Owner", GROUP)
    assert caught.value.code == "RoleAssignmentExists"


def test_an_unknown_role_is_refused_with_those_there_are(access: Access) -> None:
    with pytest.raises(InvalidRequest, match="Cognitive Services OpenAI User") as caught:
        give(access, "oid", "Chief", SUB)
    assert caught.value.code == "RoleDefinitionDoesNotExist"


def test_a_list_holds_what_counts_at_the_scope_and_what_lies_below(access: Access) -> None:
    for number, scope in enumerate((SUB, GROUP, ACCOUNT, "/subscriptions/other")):
        give(access, f"oid{number % 2}", "Reader", scope)
    assert [g.scope for g in access.roles.list(GROUP)] == [SUB, GROUP, ACCOUNT]
    assert [g.scope for g in access.roles.list(GROUP, "atScope()")] == [SUB, GROUP]
    assert [g.scope for g in access.roles.list(GROUP, "principalId eq 'oid1'")] == [GROUP]
    assert [g.scope for g in access.roles.list(GROUP, "atScope() and assignedTo('oid0')")] == [SUB]
    assert access.roles.list(GROUP, "principalId eq 'nobody'") == []
    with pytest.raises(InvalidRequest, match="createdOn"):
        access.roles.list(GROUP, "createdOn gt '2020'")


def test_definitions_are_found_by_name(access: Access) -> None:
    assert access.roles.definitions("roleName eq 'Cognitive Services OpenAI User'") == [Role.OPENAI_USER]
    assert access.roles.definitions("type eq 'BuiltInRole'") == list(Role) == access.roles.definitions()
    assert access.roles.definitions("type eq 'CustomRole'") == access.roles.definitions("roleName eq 'x'") == []
    with pytest.raises(InvalidRequest):
        access.roles.definitions("colour eq 'red'")
