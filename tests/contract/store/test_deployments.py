"""DeploymentTable: names without case, late writes, checkpoints served."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AlreadyThere

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MENU = Deployment(
    account_id="acct",
    name="Menu-Bot",
    model_name="gpt-4o-mini.ft-0123",
    model_format="OpenAI",
    model_version="1",
    served_model="gpt-4o-mini.ft-0123",
    base="weaver",
    checkpoint_id="ftchkpt-1",
    catalogue_name="gpt-4o-mini-2024-07-18",
    sku_name="standard",
    capacity=1,
    state=ProvisioningState.CREATING,
    created_at=NOON,
    updated_at=NOON,
    created_by="somebody",
    tags={"Team": "größte", "empty": ""},
)


def test_a_deployment_comes_back_as_it_was_saved(store: SqlStore) -> None:
    ready = replace(
        MENU, state=ProvisioningState.SUCCEEDED, updated_at=NOON + timedelta(minutes=1), capacity=50, failure="none"
    )
    with store.begin() as session:
        session.deployments.add(MENU)
        assert session.deployments.get("acct", "Menu-Bot") == MENU
        session.deployments.save(ready)
    with store.begin() as session:
        assert session.deployments.get("acct", "Menu-Bot") == ready


def test_a_name_is_found_taken_saved_and_deleted_whatever_its_case(store: SqlStore) -> None:
    with store.begin() as session:
        session.deployments.add(MENU)
        with pytest.raises(AlreadyThere):
            session.deployments.add(replace(MENU, name="menu-bot"))
        assert session.deployments.get("acct", "MENU-BOT") == MENU
        session.deployments.save(replace(MENU, name="menu-bot", capacity=7))
        found = session.deployments.get("acct", "Menu-Bot")
        assert found is not None
        assert found.capacity == 7
        assert session.deployments.delete("acct", "mENU-bOT")
        assert not session.deployments.delete("acct", "Menu-Bot")


def test_accounts_do_not_see_each_others_deployments(store: SqlStore) -> None:
    foreign = replace(MENU, account_id="other", checkpoint_id=None)
    with store.begin() as session:
        session.deployments.add(MENU)
        session.deployments.add(foreign)
        assert session.deployments.list("acct") == [MENU]
        assert session.deployments.get("third", "Menu-Bot") is None
        assert session.deployments.delete("acct", "Menu-Bot")
        assert session.deployments.get("other", "Menu-Bot") == foreign


def test_deployments_are_listed_by_name(store: SqlStore) -> None:
    names = ["b", "A-2", "a_1", "C", "a.0"]
    with store.begin() as session:
        for name in names:
            session.deployments.add(replace(MENU, name=name, checkpoint_id=None))
        assert [d.name for d in session.deployments.list("acct")] == ["A-2", "a.0", "a_1", "b", "C"]


def test_the_last_use_is_remembered_and_only_moves_forward(store: SqlStore) -> None:
    later, latest = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    with store.begin() as session:
        session.deployments.add(MENU)
        session.deployments.touch("acct", "menu-bot", later)
        session.deployments.touch("acct", "menu-bot", NOON)
        assert session.deployments.get("acct", "Menu-Bot") == replace(MENU, last_used_at=later)
        # Saved by someone who read it before it was used.
        session.deployments.save(replace(MENU, capacity=3))
        assert session.deployments.get("acct", "Menu-Bot") == replace(MENU, capacity=3, last_used_at=later)
        session.deployments.save(replace(MENU, last_used_at=latest))
        assert session.deployments.get("acct", "Menu-Bot") == replace(MENU, last_used_at=latest)


def test_a_late_save_does_not_bring_a_deleted_deployment_back(store: SqlStore) -> None:
    with store.begin() as session:
        session.deployments.add(MENU)
        session.deployments.delete("acct", "Menu-Bot")
        session.deployments.save(MENU)
        session.deployments.touch("acct", "Menu-Bot", NOON)
        assert session.deployments.list("acct") == []


def test_the_deployment_of_a_checkpoint_is_found_in_any_account(store: SqlStore) -> None:
    with store.begin() as session:
        session.deployments.add(replace(MENU, name="plain", checkpoint_id=None))
        assert session.deployments.of_checkpoint("ftchkpt-1") is None
        session.deployments.add(replace(MENU, account_id="other"))
        assert session.deployments.of_checkpoint("ftchkpt-1") == replace(MENU, account_id="other")


def test_unfinished_deployments_of_every_account_are_found(store: SqlStore) -> None:
    plain = replace(MENU, checkpoint_id=None)
    states = {state: replace(plain, name=str(state), state=state) for state in ProvisioningState}
    foreign = replace(plain, account_id="other")
    with store.begin() as session:
        for deployment in [*states.values(), foreign]:
            session.deployments.add(deployment)
        assert session.deployments.unfinished() == [
            states[ProvisioningState.CREATING],
            states[ProvisioningState.DELETING],
            foreign,
        ]


def test_a_checkpoint_is_served_once_whoever_writes_first(store: SqlStore) -> None:
    with store.begin() as session:
        session.deployments.add(MENU)
        with pytest.raises(AlreadyThere):
            session.deployments.add(replace(MENU, name="second"))
        with pytest.raises(AlreadyThere):
            session.deployments.add(replace(MENU, account_id="other"))
        session.deployments.add(replace(MENU, name="second", checkpoint_id="ftchkpt-2"))
    with pytest.raises(AlreadyThere), store.begin() as session:
        session.deployments.save(replace(MENU, name="second"))
    with store.begin() as session:
        session.deployments.save(replace(MENU, state=ProvisioningState.DELETING))
        session.deployments.save(replace(MENU, name="second"))


def test_what_the_clock_ends_is_found_in_every_account(store: SqlStore) -> None:
    before, after = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
    plain = replace(MENU, name="plain", checkpoint_id=None)
    used = replace(MENU, name="used", checkpoint_id="ftchkpt-2", last_used_at=NOON + timedelta(days=1))
    late = replace(MENU, name="late", checkpoint_id="ftchkpt-3", created_at=after)
    leaving = replace(MENU, name="leaving", checkpoint_id="ftchkpt-4", state=ProvisioningState.DELETING)
    trial = replace(MENU, name="trial", account_id="other", checkpoint_id="ftchkpt-5", sku_name="DeveloperTier")
    trial = replace(trial, last_used_at=NOON + timedelta(days=9))
    with store.begin() as session:
        for deployment in (MENU, plain, used, late, leaving, trial):
            session.deployments.add(deployment)
        assert session.deployments.expired(after, None) == [MENU]
        assert session.deployments.expired(before, None) == []
        assert session.deployments.expired(None, after) == [trial]
        assert session.deployments.expired(None, before) == []
        assert session.deployments.expired(after, after) == [MENU, trial]
        assert session.deployments.expired(None, None) == []
