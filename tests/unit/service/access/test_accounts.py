"""Accounts and groups: made, changed, deleted, brought back, purged; their keys and limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tailorbird.domain.access import Account
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Hyperparameters, Job, JobStatus, Stage
from tailorbird.infra.blobs import ObstoreBlobs, open_blobs
from tailorbird.infra.store import SqlStore
from tailorbird.service.access import Access, Credentials
from tailorbird.service.access.accounts import AskedAccount

TEAM = AskedAccount("Sweden Central", "openai", None, {"team": "a"})


@pytest.fixture
def blobs() -> ObstoreBlobs:
    return open_blobs("memory://")


@pytest.fixture
def access(store: SqlStore, clock: Any, new_hex: Callable[[], str], blobs: ObstoreBlobs) -> Access:
    return Access(store, clock, new_hex, blobs=blobs, max_accounts=3)


@pytest.fixture
def put(access: Access, first: Credentials) -> Callable[..., tuple[Account, bool]]:
    def make(name: str, asked: AskedAccount = TEAM) -> tuple[Account, bool]:
        return access.resources.put(first.account.subscription_id, "LOCAL", name, asked)

    return make


def test_a_new_account_has_keys_a_place_and_an_endpoint_of_its_own(
    access: Access, put: Any, first: Credentials
) -> None:
    made, created = put("Team.A")
    assert (created, made.kind, made.location, made.resource_group) == (True, "OpenAI", "swedencentral", "local")
    assert (made.sub_domain, made.tags) == ("team-a", {"team": "a"})
    found = access.by_key(made.key2)
    assert found is not None
    assert found[1] == made
    assert len({made.key1, made.key2, first.account.key1}) == 3


def test_the_same_put_again_changes_what_may_change(put: Any) -> None:
    made, _ = put("team")
    changed, created = put("TEAM", replace(TEAM, kind="AIServices", tags={}))
    assert (created, changed.id, changed.kind, changed.tags) == (False, made.id, "AIServices", {})
    assert (changed.name, changed.key1, changed.sub_domain) == (made.name, made.key1, made.sub_domain)


def test_what_cannot_change_is_refused_by_name(put: Any) -> None:
    put("team")
    with pytest.raises(Conflict) as caught:
        put("team", replace(TEAM, location="westus"))
    assert caught.value.code == "InvalidResourceLocation"
    with pytest.raises(InvalidRequest) as refused:
        put("team", replace(TEAM, sub_domain="other"))
    assert refused.value.param == "properties.customSubDomainName"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("x", {}),
        ("-team", {}),
        ("a" * 65, {}),
        ("team", {"kind": "FormRecognizer"}),
        ("team", {"location": None}),
        ("team", {"location": "../x"}),
        ("team", {"sub_domain": "under_score"}),
        ("team", {"restore": True}),
    ],
)
def test_an_account_that_will_not_do_is_refused(put: Any, name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        put(name, replace(TEAM, **changes))


def test_a_sub_domain_is_one_accounts(access: Access, put: Any, first: Credentials) -> None:
    put("team")
    with pytest.raises(Conflict) as caught:
        put("other", replace(TEAM, sub_domain="TEAM"))
    assert caught.value.code == "CustomDomainInUse"
    access.resources.put_group(first.account.subscription_id, "second", "westus", {})
    for name in ("team", "local"):
        twin, _ = access.resources.put(first.account.subscription_id, "second", name, TEAM)
        assert twin.sub_domain.startswith(f"{name}-")


def test_a_location_holds_so_many_accounts(put: Any) -> None:
    for name in ("aa", "bb", "cc"):
        put(name)
    with pytest.raises(QuotaExceeded, match="3 accounts in swedencentral"):
        put("dd")
    assert put("dd", replace(TEAM, location="westus"))[1]
    assert not put("aa")[1]


def test_a_missing_group_or_subscription_is_not_made_by_the_way(access: Access, first: Credentials) -> None:
    with pytest.raises(NotFound) as caught:
        access.resources.put(first.account.subscription_id, "nowhere", "team", TEAM)
    assert caught.value.code == "ResourceGroupNotFound"
    with pytest.raises(NotFound) as missing:
        access.resources.put_group("nobodys", "group", "westus", {})
    assert missing.value.code == "SubscriptionNotFound"


def test_a_deleted_account_is_shut_and_comes_back_whole(access: Access, put: Any, first: Credentials) -> None:
    made, _ = put("team")
    access.resources.delete(made)
    assert access.by_key(made.key1) is None
    with pytest.raises(NotFound):
        access.account(made.subscription_id, "local", "team")
    with pytest.raises(Conflict) as caught:
        put("team")
    assert caught.value.code == "FlagMustBeSetForRestore"
    assert put("team", replace(TEAM, restore=True)) == (made, True)
    assert access.by_key(made.key1) is not None


def test_a_purged_account_leaves_nothing(
    access: Access, put: Any, store: SqlStore, blobs: ObstoreBlobs, clock: Any
) -> None:
    made, _ = put("team")
    kept, _ = put("kept")
    for account in (made, kept):
        key = f"accounts/{account.id}/files/f"
        row = File(
            f"file-{account.name}", account.id, "f", Purpose.FINE_TUNE, 1, FileStatus.PROCESSED, clock.now(), key
        )
        blobs.put(key, [b"x"])
        with store.begin() as tx:
            tx.files.add(row)
    access.resources.delete(made)
    access.resources.purge(made.subscription_id, "local", "team")
    with store.begin() as tx:
        assert tx.files.get(made.id, "file-team") is None
        assert tx.files.get(kept.id, "file-kept") is not None
    assert blobs.list("accounts") == [f"accounts/{kept.id}/files/f"]
    assert put("team")[0].id != made.id
    with pytest.raises(NotFound):
        access.resources.purge(made.subscription_id, "local", "kept")


def test_an_account_at_work_and_the_servers_own_are_not_deleted(
    access: Access, put: Any, first: Credentials, store: SqlStore, clock: Any
) -> None:
    with pytest.raises(Conflict, match="server's own"):
        access.resources.delete(first.account)
    assert access.by_key(first.account.key1) is not None
    made, _ = put("team")
    now = clock.now()
    row = Job("ftjob-1", made.id, JobStatus.QUEUED, Stage.VALIDATE, "m", "weaver", "f", 1, Hyperparameters(), now, now)
    with store.begin() as tx:
        tx.jobs.add(row)
    with pytest.raises(Conflict, match="1 fine-tuning jobs"):
        access.resources.delete(made)
    assert access.by_key(made.key1) is not None


def test_a_new_key_ends_the_old_one_and_leaves_the_other(access: Access, put: Any) -> None:
    made, _ = put("team")
    changed = access.resources.regenerate_key(made, "key1")
    assert changed.key2 == made.key2
    assert access.by_key(made.key1) is None
    assert access.by_key(changed.key1) is not None
    again = access.resources.regenerate_key(made, "Key2")
    assert (again.key1, again.key2 != made.key2) == (changed.key1, True)
    with pytest.raises(InvalidRequest, match="Key1 or Key2"):
        access.resources.regenerate_key(made, "Key3")


def test_a_group_is_made_tagged_and_deleted_when_empty(access: Access, put: Any, first: Credentials) -> None:
    subscription = first.account.subscription_id
    made, created = access.resources.put_group(subscription.upper(), "Second", "West US", {})
    assert (created, made.location, made.subscription_id) == (True, "westus", subscription)
    assert access.resources.put_group(subscription, "SECOND", "westus", {"a": "b"})[0].tags == {"a": "b"}
    with pytest.raises(Conflict) as caught:
        access.resources.put_group(subscription, "second", "eastus", {})
    assert caught.value.code == "InvalidResourceGroupLocation"
    with pytest.raises(Conflict, match="accounts local"):
        access.resources.delete_group(subscription, "local")
    access.resources.delete_group(subscription, "second")
    with pytest.raises(NotFound):
        access.resources.group(subscription, "second")
    with pytest.raises(InvalidRequest):
        access.resources.put_group(subscription, "a/b", "westus", {})
