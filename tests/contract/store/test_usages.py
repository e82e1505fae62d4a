"""UsageTable: what accounts and locations use, counted by the database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.files import File, FileStatus, Purpose
from tailorbird.domain.jobs import Job, JobStatus
from tailorbird.infra.store import SqlStore
from tailorbird.service.ports import AccountUse, Used

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
BASE = Deployment(
    account_id="acct",
    name="Menu-Bot",
    model_name="gpt-4o",
    model_format="OpenAI",
    model_version="1",
    served_model="gpt-4o",
    base="weaver",
    checkpoint_id=None,
    catalogue_name="gpt-4o",
    sku_name="Standard",
    capacity=3,
    state=ProvisioningState.SUCCEEDED,
    created_at=NOON,
    updated_at=NOON,
    created_by="somebody",
)


def account(code: str, subscription: str = "Sub", location: str = "East") -> Account:
    return Account(code, subscription, "rg", code, location, "OpenAI", f"1{code}", f"2{code}", NOON)


def test_capacity_is_summed_by_model_and_sku_over_the_accounts_of_a_location(store: SqlStore) -> None:
    with store.begin() as session:
        for owner in (account("a"), account("b"), account("c", location="West"), account("d", subscription="Other")):
            session.accounts.add(owner)
            session.deployments.add(replace(BASE, account_id=owner.id))
        session.deployments.add(replace(BASE, account_id="b", name="tuned", checkpoint_id="c1", capacity=10))
        session.deployments.add(replace(BASE, account_id="b", name="global", sku_name="GlobalStandard", capacity=7))
        session.deployments.add(replace(BASE, account_id="b", name="gone", state=ProvisioningState.DELETING))
        session.deployments.add(replace(BASE, account_id="b", name="broken", state=ProvisioningState.FAILED))
        session.deployments.add(replace(BASE, account_id="a", name="new", state=ProvisioningState.CREATING))
        found = session.usages.capacity("sub", "EAST")
        assert found == [Used("gpt-4o", "GlobalStandard", 7), Used("gpt-4o", "Standard", 19)]
        assert session.usages.capacity("SUB", "east", but=("b", "TUNED"))[1] == Used("gpt-4o", "Standard", 9)
        assert session.usages.capacity("sub", "nowhere") == []


def test_an_account_s_deployments_jobs_and_files_are_counted(store: SqlStore, a_job: Callable[..., Job]) -> None:
    file = File("file-1", "acct", "a.jsonl", Purpose.FINE_TUNE, 100, FileStatus.PROCESSED, NOON, "k")
    with store.begin() as session:
        assert session.usages.of_account("acct") == AccountUse(0, 0, 0, 0, 0, 0)
        session.deployments.add(BASE)
        session.deployments.add(replace(BASE, name="tuned", checkpoint_id="c1"))
        session.deployments.add(replace(BASE, name="ptu", checkpoint_id="c2", sku_name="ProvisionedManaged"))
        session.deployments.add(replace(BASE, name="gone", checkpoint_id="c3", state=ProvisioningState.DELETING))
        session.deployments.add(replace(BASE, account_id="other"))
        session.jobs.add(a_job(1))
        session.jobs.add(a_job(2, status=JobStatus.FAILED))
        session.jobs.add(a_job(3, account_id="other"))
        session.files.add(file)
        session.files.add(replace(file, id="file-2", bytes=23))
        session.files.add(replace(file, id="file-3", purpose=Purpose.FINE_TUNE_RESULTS))
        session.files.add(replace(file, id="file-4", account_id="other"))
        assert session.usages.of_account("acct") == AccountUse(2, 2, 2, 1, 2, 123)
        assert session.usages.of_account("acct", but="TUNED") == AccountUse(1, 1, 2, 1, 2, 123)
