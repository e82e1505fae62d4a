"""ModelTable: two names lead to one model."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tailorbird.domain.models import TunedModel
from tailorbird.infra.store import SqlStore

TUNED = TunedModel(
    name="gpt-4o-mini-2024-07-18.ft-0123-menu",
    openai_name="ft:gpt-4o-mini-2024-07-18:tailorbird:menu:0123",
    account_id="acct",
    job_id="ftjob-1",
    checkpoint_id="ftchkpt-1",
    catalogue_name="gpt-4o-mini-2024-07-18",
    base="weaver",
    template_hash="abc",
    created_at=datetime(2026, 1, 5, 12, tzinfo=UTC),
)


def test_either_name_leads_to_the_model_in_its_account_only(store: SqlStore) -> None:
    with store.begin() as session:
        session.models.add(TUNED)
    with store.begin() as session:
        assert session.models.find("acct", TUNED.name) == TUNED
        assert session.models.find("acct", TUNED.openai_name) == TUNED
        assert session.models.find("acct", "ftchkpt-1") is None
        assert session.models.find("other", TUNED.name) is None
        assert session.models.find("other", TUNED.openai_name) is None


def test_adding_a_name_again_replaces_the_model(store: SqlStore) -> None:
    again = replace(TUNED, checkpoint_id="ftchkpt-2", openai_name="ft:new")
    foreign = replace(TUNED, account_id="other")
    with store.begin() as session:
        session.models.add(TUNED)
        session.models.add(foreign)
        session.models.add(again)
    with store.begin() as session:
        assert session.models.list("acct") == [again]
        assert session.models.find("acct", TUNED.openai_name) is None
        assert session.models.list("other") == [foreign]


def test_models_are_listed_oldest_first(store: SqlStore) -> None:
    young, old, same_moment = (
        replace(TUNED, name=name, created_at=TUNED.created_at + timedelta(seconds=age))
        for name, age in (("b", 1), ("c", 0), ("a", 1))
    )
    with store.begin() as session:
        for model in (young, old, same_moment):
            session.models.add(model)
        assert session.models.list("acct") == [old, young, same_moment]
        assert session.models.list("other") == []


def test_a_model_is_deleted_once_and_by_its_owner(store: SqlStore) -> None:
    with store.begin() as session:
        session.models.add(TUNED)
        assert not session.models.delete("other", TUNED.name)
        assert session.models.delete("acct", TUNED.name)
        assert not session.models.delete("acct", TUNED.name)
        assert session.models.find("acct", TUNED.name) is None
