"""Store, Leases, Blobs, Trainer, Engine, Moderator, Clock: what the use cases need of the outside world.

Store, Leases and Blobs are synchronous (short SQL, streamed bytes); Trainer, Engine and Moderator are asynchronous
(they wait for other processes). Implementations live in `infra/`; each has to pass its port's contract suite.
"""

from __future__ import annotations

from tailorbird.service.ports.access import AccountTable, IdentityTable, IssuerKeys
from tailorbird.service.ports.audit import AuditTable
from tailorbird.service.ports.completions import CompletionTable
from tailorbird.service.ports.deployments import DeploymentTable
from tailorbird.service.ports.files import FileCount, FileTable, ImportTable
from tailorbird.service.ports.jobs import AccountSettings, JobTable, Leases
from tailorbird.service.ports.models import ModelTable
from tailorbird.service.ports.outcomes import (
    AdapterUnknown,
    AlreadyThere,
    BlobMissing,
    EngineDown,
    EngineRefused,
    LeaseLost,
    ModeratorDown,
    Order,
    Page,
    TrainerCrashed,
)
from tailorbird.service.ports.safety import VerdictTable
from tailorbird.service.ports.sandbox import CodeFailed, Sandbox, SandboxBroken, SandboxRefused
from tailorbird.service.ports.store import Session, Store
from tailorbird.service.ports.tracking import Tracker, TrackerRun
from tailorbird.service.ports.uploads import UploadTable
from tailorbird.service.ports.usage import (
    BudgetTable,
    CalibrationTable,
    GroupBy,
    HostingTable,
    Journal,
    Journals,
    LedgerTable,
    TokenCount,
    Total,
    WorkTable,
)
from tailorbird.service.ports.usages import AccountUse, UsageTable, Used
from tailorbird.service.ports.web import Fetched, Web, WebBroken, WebRefused
from tailorbird.service.ports.world import (
    Blobs,
    Clock,
    Engine,
    Engines,
    Moderator,
    Trainer,
    TrainerRun,
)

__all__ = [
    "AccountSettings",
    "AccountTable",
    "AccountUse",
    "AdapterUnknown",
    "AlreadyThere",
    "AuditTable",
    "BlobMissing",
    "Blobs",
    "BudgetTable",
    "CalibrationTable",
    "Clock",
    "CodeFailed",
    "CompletionTable",
    "DeploymentTable",
    "Engine",
    "EngineDown",
    "EngineRefused",
    "Engines",
    "Fetched",
    "FileCount",
    "FileTable",
    "GroupBy",
    "HostingTable",
    "IdentityTable",
    "ImportTable",
    "IssuerKeys",
    "JobTable",
    "Journal",
    "Journals",
    "LeaseLost",
    "Leases",
    "LedgerTable",
    "ModelTable",
    "Moderator",
    "ModeratorDown",
    "Order",
    "Page",
    "Sandbox",
    "SandboxBroken",
    "SandboxRefused",
    "Session",
    "Store",
    "TokenCount",
    "Total",
    "Tracker",
    "TrackerRun",
    "Trainer",
    "TrainerCrashed",
    "TrainerRun",
    "UploadTable",
    "UsageTable",
    "Used",
    "VerdictTable",
    "Web",
    "WebBroken",
    "WebRefused",
    "WorkTable",
]
