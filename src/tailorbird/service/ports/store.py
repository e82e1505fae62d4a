"""One transaction over all tables."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from tailorbird.service.ports.access import AccountTable, IdentityTable
from tailorbird.service.ports.audit import AuditTable
from tailorbird.service.ports.completions import CompletionTable
from tailorbird.service.ports.deployments import DeploymentTable
from tailorbird.service.ports.evals import EvalTable
from tailorbird.service.ports.files import FileTable, ImportTable
from tailorbird.service.ports.jobs import AccountSettings, JobTable
from tailorbird.service.ports.models import ModelTable
from tailorbird.service.ports.safety import VerdictTable
from tailorbird.service.ports.sharing import SharingTable
from tailorbird.service.ports.uploads import UploadTable
from tailorbird.service.ports.usage import BudgetTable, CalibrationTable, HostingTable, LedgerTable, WorkTable
from tailorbird.service.ports.usages import UsageTable


class Session(Protocol):
    """One transaction: everything done through it happens, or nothing."""

    @property
    def accounts(self) -> AccountTable: ...
    @property
    def audit(self) -> AuditTable: ...
    @property
    def identities(self) -> IdentityTable: ...
    @property
    def files(self) -> FileTable: ...
    @property
    def imports(self) -> ImportTable: ...
    @property
    def uploads(self) -> UploadTable: ...
    @property
    def jobs(self) -> JobTable: ...
    @property
    def account_settings(self) -> AccountSettings: ...
    @property
    def models(self) -> ModelTable: ...
    @property
    def deployments(self) -> DeploymentTable: ...
    @property
    def completions(self) -> CompletionTable: ...
    @property
    def evals(self) -> EvalTable: ...
    @property
    def sharing(self) -> SharingTable: ...
    @property
    def verdicts(self) -> VerdictTable: ...
    @property
    def usages(self) -> UsageTable: ...
    @property
    def ledger(self) -> LedgerTable: ...
    @property
    def hosting(self) -> HostingTable: ...
    @property
    def work(self) -> WorkTable: ...
    @property
    def calibrations(self) -> CalibrationTable: ...
    @property
    def budgets(self) -> BudgetTable: ...


class Store(Protocol):
    def begin(self) -> AbstractContextManager[Session]:
        """Commits when the block ends, rolls back when it raises. Never hold it across an await."""
        ...

    def ping(self) -> None:
        """Raises when the database cannot be reached."""
        ...
