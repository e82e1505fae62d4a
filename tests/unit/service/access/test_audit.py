"""The audit trail of access: what is done to keys, roles, accounts, people; what is refused; who may read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import pytest

from tailorbird.domain.access import Account, Action, Assignment, Principal, Role
from tailorbird.domain.audit import Act, Entry, Outcome, Wanted
from tailorbird.domain.errors import InvalidRequest, NotFound, PermissionDenied, ServiceError
from tailorbird.infra.store import SqlStore
from tailorbird.service import acting
from tailorbird.service.access import Access
from tailorbird.service.access.accounts import AskedAccount
from tailorbird.service.audit import REFUSALS_A_MINUTE, Audit

T = TypeVar("T")
EVERYTHING = Wanted(("/",))
AUTHORITY = "https://localhost:1"


@pytest.fixture
def account(access: Access) -> Account:
    return access.first_run().account


def trail(store: SqlStore) -> list[Entry]:
    return list(reversed(Audit(store).list(EVERYTHING, before=None, limit=1000).items))


def as_anna(work: Callable[[], T]) -> T:
    with acting.begun(acting.Acting("r1", "10.0.0.9")):
        acting.identified(Principal("id-anna", "anna"))
        return work()


def test_an_entry_says_who_what_where_from_and_for_which_request(
    access: Access, store: SqlStore, account: Account
) -> None:
    as_anna(lambda: access.resources.keys(account))
    [entry] = trail(store)
    assert (entry.principal_id, entry.principal_name, entry.request_id, entry.address) == (
        "id-anna",
        "anna",
        "r1",
        "10.0.0.9",
    )
    assert (entry.action, entry.resource, entry.outcome) == (Action.LIST_KEYS, account.resource_id, Outcome.SUCCEEDED)


def test_everything_about_accounts_is_written_down(access: Access, store: SqlStore, account: Account) -> None:
    subscription, resources = account.subscription_id, access.resources
    resources.put_group(subscription, "team", "local", {})
    resources.tag_group(subscription, "team", {"a": "b"})
    made, _ = resources.put(subscription, "team", "one", AskedAccount("local", "OpenAI", None, {}))
    resources.put(subscription, "team", "one", AskedAccount("local", "OpenAI", None, {"a": "b"}))
    renewed = resources.regenerate_key(made, "Key2")
    resources.delete(made)
    resources.put(subscription, "team", "one", AskedAccount("local", "OpenAI", None, {}, restore=True))
    resources.delete(made)
    resources.purge(subscription, "team", "one")
    resources.delete_group(subscription, "team")
    assert [(entry.action, entry.detail) for entry in trail(store)] == [
        (Action.WRITE_GROUP, "created"),
        (Action.WRITE_GROUP, "tagged"),
        (Action.WRITE_ACCOUNT, "created"),
        (Action.WRITE_ACCOUNT, "changed"),
        (Action.REGENERATE_KEY, "key2"),
        (Action.DELETE_ACCOUNT, ""),
        (Action.WRITE_ACCOUNT, "restored"),
        (Action.DELETE_ACCOUNT, ""),
        (Act.PURGE_ACCOUNT, ""),
        (Action.DELETE_GROUP, ""),
    ]
    written = json.dumps([str(entry) for entry in trail(store)])
    assert renewed.key2 not in written
    assert made.key1 not in written


def test_roles_people_and_applications_are_written_down(access: Access, store: SqlStore, account: Account) -> None:
    user = access.users.add_user("anna", "correct horse")
    access.users.set_password("anna", "battery staple")
    made, secret = access.users.add_application("ci")
    renewed = access.users.reset_secret(made.app_id)
    grant, _ = access.roles.assign(user.object_id, "Owner", account.resource_id, by="x")
    access.roles.remove(account.resource_id, grant.id)
    access.users.delete_application(made.app_id)
    access.users.delete_user("anna")
    assigned = f"{account.resource_id}/providers/Microsoft.Authorization/roleAssignments/{grant.id}"
    assert [(entry.action, entry.resource, entry.detail) for entry in trail(store)] == [
        (Act.WRITE_USER, "/tailorbird/users/anna", "added"),
        (Act.WRITE_USER, "/tailorbird/users/anna", "given a new password"),
        (Act.WRITE_APPLICATION, f"/tailorbird/applications/{made.app_id}", "added as ci"),
        (Act.WRITE_APPLICATION, f"/tailorbird/applications/{made.app_id}", "given a new secret"),
        (Action.WRITE_ROLE, assigned, f"Owner to {user.object_id}"),
        (Action.DELETE_ROLE, assigned, f"Owner from {user.object_id}"),
        (Act.DELETE_APPLICATION, f"/tailorbird/applications/{made.app_id}", ""),
        (Act.DELETE_USER, "/tailorbird/users/anna", ""),
    ]
    assert not any(word in str(trail(store)) for word in (secret, renewed, "correct horse", "battery staple"))


def test_what_fails_leaves_no_entry_of_success(access: Access, store: SqlStore, account: Account) -> None:
    with pytest.raises(NotFound):
        access.users.delete_user("nobody")
    with pytest.raises(InvalidRequest):
        access.resources.regenerate_key(account, "Key3")
    assert trail(store) == []


@pytest.mark.parametrize("right_name", [True, False])
def test_a_failed_login_is_written_down_without_its_secret(access: Access, store: SqlStore, right_name: bool) -> None:
    access.users.add_user("anna", "correct horse")
    name = "anna" if right_name else "nobody"
    with pytest.raises(ServiceError):
        access.logins.by_password("app", name, "hunter2-hunter2", [f"{AUTHORITY}/.default"], authority=AUTHORITY)
    entry = trail(store)[-1]
    assert (entry.action, entry.resource, entry.outcome) == (Act.LOGIN, f"/tailorbird/logins/{name}", Outcome.DENIED)
    assert entry.detail == "AADSTS50126"
    assert "hunter2" not in str(entry)


def test_failed_logins_of_applications_devices_and_refresh_tokens_are_written_down(
    access: Access, store: SqlStore
) -> None:
    app = access.first_run().client_id
    scopes = [f"{AUTHORITY}/.default"]
    for attempt in (
        lambda: access.logins.by_secret(app, "wrong", scopes, authority=AUTHORITY),
        lambda: access.logins.by_secret("no-app", "wrong", scopes, authority=AUTHORITY),
        lambda: access.logins.by_refresh("no-app", "wrong", scopes, authority=AUTHORITY),
        lambda: access.logins.confirm_device("ABCD", "nobody", "wrong"),
        lambda: access.logins.check_client(app, "wrong"),
    ):
        with pytest.raises(ServiceError):
            attempt()
    assert [(entry.resource, entry.detail) for entry in trail(store)] == [
        (f"/tailorbird/logins/{app}", "AADSTS7000215"),
        ("/tailorbird/logins/no-app", "AADSTS700016"),
        ("/tailorbird/logins/no-app", "AADSTS70008"),
        ("/tailorbird/logins/nobody", "AADSTS50126"),
        (f"/tailorbird/logins/{app}", "AADSTS7000215"),
    ]


def test_a_refused_change_is_written_down_and_a_refused_look_is_not(
    access: Access, store: SqlStore, account: Account
) -> None:
    reader = Principal("id-b", "bert", (Assignment(Role.READER, account.resource_id),))
    for action in (Action.LIST_KEYS, Action.READ_GROUP):
        with pytest.raises(PermissionDenied):
            access.authorize_at(reader, action, account.resource_id.rsplit("/", 4)[0])
    [entry] = trail(store)
    assert (entry.action, entry.outcome) == (Action.LIST_KEYS, Outcome.DENIED)


def test_a_flood_of_refusals_is_bounded_for_each_minute(access: Access, store: SqlStore, clock) -> None:
    def refused() -> None:
        with pytest.raises(PermissionDenied):
            access.authorize_at(Principal("id-b", "bert"), Action.LIST_KEYS, "/subscriptions/s")

    for _ in range(REFUSALS_A_MINUTE + 5):
        refused()
    assert len(trail(store)) == REFUSALS_A_MINUTE
    assert access.refusals.suppressed == 5
    clock.moment += timedelta(seconds=61)
    refused()
    assert len(trail(store)) == REFUSALS_A_MINUTE + 1


# --- who may read -----------------------------------------------------------------------------------------------------


def owner(scope: str, role: Role = Role.OWNER) -> Principal:
    return Principal("id-o", "olga", (Assignment(role, scope),))


def seen(store: SqlStore, who: Principal, *scopes: str) -> set[str]:
    page = Audit(store).read(who, Wanted(scopes), before=None, limit=100)
    return {f"{entry.action.rsplit('/', 2)[-2]}" for entry in page.items}


@pytest.fixture
def some_trail(access: Access, account: Account) -> Account:
    """One entry at the account, one at its group, one of the installation."""
    access.resources.keys(account)
    access.resources.tag_group(account.subscription_id, account.resource_group, {})
    access.users.add_user("anna", "correct horse")
    return account


def test_an_owner_reads_what_happened_at_and_below_their_scope(store: SqlStore, some_trail: Account) -> None:
    subscription, group = some_trail.resource_id.split("/resourceGroups")[0], some_trail.resource_id.rsplit("/", 4)[0]
    assert seen(store, owner(some_trail.resource_id)) == {"listKeys"}
    assert seen(store, owner(group)) == {"listKeys", "resourceGroups"}
    assert seen(store, owner(subscription)) == {"listKeys", "resourceGroups", "users"}
    assert seen(store, owner(subscription), some_trail.resource_id) == {"listKeys"}
    assert seen(store, owner(subscription), "/tailorbird") == {"users"}


@pytest.mark.parametrize("role", [Role.CONTRIBUTOR, Role.READER, Role.COGNITIVE_CONTRIBUTOR, Role.AI_OWNER])
def test_without_the_role_owner_nobody_reads(store: SqlStore, some_trail: Account, role: Role) -> None:
    with pytest.raises(PermissionDenied, match="Owner"):
        seen(store, owner(some_trail.resource_id, role))


def test_a_scope_beside_or_above_one_s_own_is_refused(store: SqlStore, some_trail: Account) -> None:
    for scope in (f"/subscriptions/{some_trail.subscription_id}", f"{some_trail.resource_id}2", "/tailorbird", "/"):
        with pytest.raises(PermissionDenied):
            seen(store, owner(some_trail.resource_id), scope)
