"""IdentityTable: applications, users, grants, device codes, refresh tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tailorbird.domain.access import (
    Account,
    Assignment,
    DeviceCode,
    Grant,
    PrincipalKind,
    RefreshToken,
    ResourceGroup,
    Role,
    ServicePrincipal,
    User,
)
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=15)
ANNA = User("oid-1", "Anna@example.org", "digest", NOW)
GRANT = Grant("g1", "oid-1", Role.READER, "/subscriptions/S", PrincipalKind.USER, NOW, "root", "why")
CODE = DeviceCode("digest", "ABCD2345", "client", "https://ai.azure.com", NOW, LATER)
TOKEN = RefreshToken("digest", "family", "oid-1", "client", LATER)


def test_a_user_comes_back_by_id_with_roles_and_by_name_in_any_case(store: SqlStore) -> None:
    with store.begin() as session:
        session.identities.add_user(ANNA)
        assert session.identities.add_grant(GRANT)
        held = (Assignment(Role.READER, "/subscriptions/S"),)
        assert session.identities.user("oid-1") == replace(ANNA, assignments=held)
        assert session.identities.assignments("oid-1") == held
        assert session.identities.user_named("ANNA@EXAMPLE.ORG") == ANNA
        assert session.identities.users() == [ANNA]
        assert session.identities.user("oid-2") is session.identities.user_named("x") is None
        with pytest.raises(AlreadyThere):
            session.identities.add_user(replace(ANNA, object_id="oid-2", name="anna@EXAMPLE.org"))


def test_failures_and_a_lock_are_kept(store: SqlStore) -> None:
    changed = replace(ANNA, password_digest="new", failures=3, locked_until=LATER)
    with store.begin() as session:
        session.identities.add_user(ANNA)
        session.identities.save_user(changed)
    with store.begin() as session:
        assert session.identities.user_named(ANNA.name) == changed


def test_a_deleted_user_leaves_no_roles_and_no_tokens(store: SqlStore) -> None:
    with store.begin() as session:
        session.identities.add_user(ANNA)
        session.identities.add_grant(GRANT)
        session.identities.add_refresh_token(TOKEN, NOW)
        assert session.identities.delete_user("oid-1")
        assert not session.identities.delete_user("oid-1")
        assert session.identities.grants() == []
        assert session.identities.refresh_token("digest") is None


def test_an_application_is_changed_and_deleted_with_its_roles(store: SqlStore) -> None:
    robot = ServicePrincipal("app", "oid-1", "robot", "digest", (Assignment(Role.OWNER, "/"),))
    with store.begin() as session:
        session.identities.add_service_principal(robot)
        assert session.identities.set_secret("app", "new")
        assert not session.identities.set_secret("other", "new")
        assert session.identities.service_principal("app") == replace(robot, secret_digest="new")
        assert [one.app_id for one in session.identities.service_principals()] == ["app"]
        assert session.identities.delete_service_principal("app")
        assert not session.identities.delete_service_principal("app")
        assert session.identities.assignments("oid-1") == ()


def test_a_grant_comes_back_whole_and_is_made_once(store: SqlStore) -> None:
    with store.begin() as session:
        assert session.identities.add_grant(GRANT)
        assert session.identities.grant("g1") == GRANT
        assert not session.identities.add_grant(replace(GRANT, id="g2", scope="/SUBSCRIPTIONS/s/"))
        with pytest.raises(AlreadyThere):
            session.identities.add_grant(replace(GRANT, role=Role.OWNER))
        other = replace(GRANT, id="g3", object_id="oid-2")
        assert session.identities.add_grant(other)
        assert session.identities.grants() == [GRANT, other]
        assert session.identities.grants("oid-2") == [other]
        assert session.identities.delete_grant("g1")
        assert not session.identities.delete_grant("g1")
        assert session.identities.grant("g1") is None


def test_a_device_code_is_found_by_either_half_and_taken_once(store: SqlStore) -> None:
    signed = replace(CODE, polled_at=NOW, object_id="oid-1")
    with store.begin() as session:
        assert session.identities.add_device_code(CODE, NOW)
        assert not session.identities.add_device_code(replace(CODE, digest="other"), NOW)
        session.identities.save_device_code(signed)
        assert session.identities.device_code("digest") == session.identities.device_code_typed("ABCD2345") == signed
        assert session.identities.take_device_code("digest")
        assert not session.identities.take_device_code("digest")


def test_what_has_expired_is_forgotten(store: SqlStore) -> None:
    after = LATER + timedelta(seconds=1)
    with store.begin() as session:
        session.identities.add_device_code(CODE, NOW)
        session.identities.add_refresh_token(TOKEN, NOW)
        newer = replace(CODE, digest="newer", user_code="NEWER234", expires_at=after)
        session.identities.add_device_code(newer, after)
        session.identities.add_refresh_token(replace(TOKEN, digest="newer", expires_at=after), after)
        assert session.identities.device_code("digest") is None
        assert session.identities.refresh_token("digest") is None
        assert session.identities.device_code("newer") == newer


def test_the_first_use_of_a_refresh_token_is_remembered_and_a_family_ends_whole(store: SqlStore) -> None:
    with store.begin() as session:
        session.identities.add_refresh_token(TOKEN, NOW)
        session.identities.add_refresh_token(replace(TOKEN, digest="stranger", family="other"), NOW)
        session.identities.use_refresh_token("digest", NOW)
        session.identities.use_refresh_token("digest", LATER)
        assert session.identities.refresh_token("digest") == replace(TOKEN, used_at=NOW)
        session.identities.revoke_family("family")
        assert session.identities.refresh_token("digest") is None
        assert session.identities.refresh_token("stranger") is not None


# --- what accounts learned with them ----------------------------------------------------------------------------------

LOCAL = Account("acct-1", "5A0B", "Teams", "Local", "westus", "OpenAI", "k1", "k2", NOW)
TEAM = replace(LOCAL, id="acct-2", name="Team", key1="k3", key2="k4", sub_domain="team", tags={"a": "b"})


def test_an_account_answers_to_its_sub_domain_or_without_one_to_its_name(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(LOCAL)
        session.accounts.add(TEAM)
        assert session.accounts.by_sub_domain("TEAM") == TEAM
        assert session.accounts.by_sub_domain("local") == LOCAL
        assert session.accounts.by_sub_domain("") is session.accounts.by_sub_domain("x") is None
        with pytest.raises(AlreadyThere):
            session.accounts.save(replace(LOCAL, sub_domain="Team"))
    with store.begin() as session, pytest.raises(AlreadyThere):
        session.accounts.add(replace(TEAM, id="acct-3", name="third"))


def test_a_deleted_account_is_nowhere_but_among_the_deleted(store: SqlStore) -> None:
    gone = replace(TEAM, deleted_at=NOW, tags={})
    with store.begin() as session:
        session.accounts.add(TEAM)
        session.accounts.save(gone)
        assert session.accounts.get("acct-2") is session.accounts.by_key("k3") is None
        assert session.accounts.by_name("5a0b", "teams", "team") is session.accounts.by_sub_domain("team") is None
        assert session.accounts.list() == []
        assert session.accounts.deleted("5a0b", "TEAMS", "TEAM") == gone
        session.accounts.purge("acct-2")
        assert session.accounts.deleted("5a0b", "teams", "team") is None


def test_an_account_in_use_is_not_purged(store: SqlStore) -> None:
    with store.begin() as session:
        session.accounts.add(TEAM)
        session.accounts.purge("acct-2")
        assert session.accounts.get("acct-2") == TEAM


def test_a_group_comes_with_its_first_account_or_by_itself(store: SqlStore) -> None:
    other = ResourceGroup("5A0B", "Other", "eastus", NOW, {"a": "b"})
    with store.begin() as session:
        session.accounts.add(LOCAL)
        session.accounts.add(TEAM)
        session.accounts.add_group(other)
        assert session.accounts.group("5a0b", "TEAMS") == ResourceGroup("5A0B", "Teams", "westus", NOW)
        assert [group.name for group in session.accounts.groups("5a0b")] == ["Teams", "Other"]
        assert session.accounts.groups("77") == []
        session.accounts.save_group(replace(other, tags={}))
        assert session.accounts.group("5A0B", "other") == replace(other, tags={})
        assert session.accounts.delete_group("5a0b", "OTHER")
        assert not session.accounts.delete_group("5a0b", "other")
    with store.begin() as session, pytest.raises(AlreadyThere):
        session.accounts.add_group(replace(other, name="TEAMS"))


def test_a_key_is_found_by_its_index(store: SqlStore, engine: sa.Engine) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("a plan of PostgreSQL depends on how many rows there are")
    with engine.connect() as connection:
        statement = "EXPLAIN QUERY PLAN SELECT * FROM accounts WHERE (key1 = 'x' OR key2 = 'x') AND deleted_at IS NULL"
        steps = [row[3] for row in connection.exec_driver_sql(statement)]
    assert any("accounts_key1" in step for step in steps)
    assert not any(step.startswith("SCAN") for step in steps)
