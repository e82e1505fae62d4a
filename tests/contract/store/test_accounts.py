"""AccountTable: names without case, keys, roles, secrets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tailorbird.domain.access import Account, Assignment, Role, ServicePrincipal
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere

LOCAL = Account(
    id="acct-1",
    subscription_id="5A0B",
    resource_group="Teams",
    name="Local",
    location="swedencentral",
    kind="OpenAI",
    key1="key-one",
    key2="key-two",
    created_at=datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC),
)
OTHER = replace(LOCAL, id="acct-2", name="other", key1="key-three", key2="key-four")


def test_an_account_comes_back_as_it_was_added(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(LOCAL)
    with store.begin() as session:
        found = session.accounts.get("acct-1")
        assert found == LOCAL
        assert found is not None
        assert found.created_at.tzinfo is UTC
        assert session.accounts.get("acct-9") is None


def test_a_moment_in_another_zone_comes_back_as_the_same_moment_in_utc(store: SqlStore) -> None:
    there = datetime(2026, 7, 1, 1, 30, tzinfo=timezone(timedelta(hours=9)))
    with store.begin() as session:
        session.accounts.add(replace(LOCAL, created_at=there))
        found = session.accounts.get("acct-1")
    assert found is not None
    assert found.created_at == there
    assert found.created_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "twin",
    [
        replace(LOCAL, id="acct-2"),
        replace(LOCAL, id="acct-2", name="LOCAL", resource_group="teams", subscription_id="5a0b"),
        replace(LOCAL, name="another", key1="x", key2="y"),
    ],
    ids=["same_name", "same_name_in_other_case", "same_id"],
)
def test_a_taken_resource_id_is_refused_and_the_session_goes_on(store: SqlStore, twin: Account) -> None:
    with store.begin() as session:
        session.accounts.add(LOCAL)
        with pytest.raises(AlreadyThere):
            session.accounts.add(twin)
        session.accounts.add(OTHER)
    with store.begin() as session:
        assert session.accounts.list() == [LOCAL, OTHER]


def test_the_same_name_in_another_resource_group_is_another_account(store: SqlStore) -> None:
    namesake = replace(OTHER, name="Local", resource_group="others")
    with store.begin() as session:
        session.accounts.add(LOCAL)
        session.accounts.add(namesake)
        assert session.accounts.by_name("5a0b", "OTHERS", "local") == namesake


def test_a_name_is_found_whatever_its_case(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(LOCAL)
        assert session.accounts.by_name("5a0b", "TEAMS", "lOCAL") == LOCAL
        assert session.accounts.by_name("5a0b", "TEAMS", "locals") is None
        assert session.accounts.by_name("5a0c", "TEAMS", "local") is None


def test_either_key_leads_to_the_account_and_case_counts(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(OTHER)
        session.accounts.add(LOCAL)
        assert session.accounts.by_key("key-one") == LOCAL
        assert session.accounts.by_key("key-two") == LOCAL
        assert session.accounts.by_key("key-three") == OTHER
        assert session.accounts.by_key("KEY-ONE") is None
        assert session.accounts.by_key("") is None


def test_a_subscription_lists_its_own_accounts(store: SqlStore) -> None:
    elsewhere = replace(OTHER, subscription_id="77")
    with store.begin() as session:
        session.accounts.add(LOCAL)
        session.accounts.add(elsewhere)
        assert session.accounts.list("5a0B") == [LOCAL]
        assert session.accounts.list("77") == [elsewhere]
        assert session.accounts.list("78") == []
        assert session.accounts.list() == [LOCAL, elsewhere]


def test_a_service_principal_comes_back_with_what_it_was_granted(store: SqlStore) -> None:
    owner = Assignment(Role.OWNER, "/subscriptions/5A0B")
    user = Assignment(Role.OPENAI_USER, LOCAL.resource_id)
    principal = ServicePrincipal("app", "object", "ci", "digest", (owner,))
    with store.begin() as session:
        session.identities.add_service_principal(principal)
        session.identities.add_assignment("object", user)
        session.identities.add_assignment("somebody else", Assignment(Role.COGNITIVE_CONTRIBUTOR, "/subscriptions/77"))
    with store.begin() as session:
        assert session.identities.service_principal("app") == replace(principal, assignments=(owner, user))
        assert session.identities.service_principal("object") is None


def test_granting_twice_is_granting_once(store: SqlStore) -> None:
    once = Assignment(Role.OPENAI_USER, LOCAL.resource_id)
    again = Assignment(Role.OPENAI_USER, LOCAL.resource_id.upper() + "/")
    other_role = Assignment(Role.OPENAI_CONTRIBUTOR, LOCAL.resource_id)
    with store.begin() as session:
        session.identities.add_service_principal(ServicePrincipal("app", "object", "ci", "digest"))
        for assignment in (once, once, again, other_role):
            session.identities.add_assignment("object", assignment)
        found = session.identities.service_principal("app")
    assert found is not None
    assert found.assignments == (once, other_role)


def test_an_app_id_is_taken_once(store: SqlStore) -> None:
    principal = ServicePrincipal("app", "object", "ci", "digest")
    with store.begin() as session:
        session.identities.add_service_principal(principal)
        with pytest.raises(AlreadyThere):
            session.identities.add_service_principal(replace(principal, secret_digest="stolen"))
        assert session.identities.service_principal("app") == principal


def test_the_first_value_of_a_secret_stays(store: SqlStore) -> None:
    with store.begin() as session:
        assert session.accounts.secret("signing key") is None
        assert session.accounts.add_secret("signing key", "first") == "first"
    with store.begin() as session:
        assert session.accounts.add_secret("signing key", "second") == "first"
        assert session.accounts.secret("signing key") == "first"
        assert session.accounts.secret("other") is None
