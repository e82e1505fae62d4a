"""Builds services from Settings: the one place where a port meets its implementation.

Imports stand inside the functions where one process would otherwise carry another's libraries: the worker needs no web
framework.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tailorbird.domain.deployments import Limits
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.engine import HttpEngines
from tailorbird.infra.metrics import MeteredBlobs, MeteredTrainer, StoreFigures, expose, new_registry
from tailorbird.infra.oidc import HttpIssuerKeys
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service import acting
from tailorbird.service.access import Access, Issuer
from tailorbird.service.adapters import Adapters
from tailorbird.service.audit import Audit
from tailorbird.service.completions import StoredCompletions
from tailorbird.service.copies import Copies
from tailorbird.service.embeddings import Embedder
from tailorbird.service.models import Catalogue, Models, load_catalogue
from tailorbird.service.ports import Blobs
from tailorbird.service.prompts import Prompts
from tailorbird.service.rates import Rates
from tailorbird.service.sharing import Sharing
from tailorbird.service.usage.prices import load_prices, unpriced
from tailorbird.settings import Settings, as_environment

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from tailorbird.api.app import Addresses, Services
    from tailorbird.domain.pricing import PriceList
    from tailorbird.service.deployments import Deployments
    from tailorbird.service.files import Files
    from tailorbird.service.imports import Imports
    from tailorbird.service.jobs import Jobs
    from tailorbird.service.ports import Moderator, Trainer
    from tailorbird.service.uploads import Uploads
    from tailorbird.service.usage import Cost
    from tailorbird.service.usage.calibration import Calibrator
    from tailorbird.worker import Worker

log = logging.getLogger(__name__)


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def new_hex() -> str:
    """32 random hex digits."""
    return uuid.uuid4().hex


def migrate_database(settings: Settings) -> None:
    settings.folder.mkdir(parents=True, exist_ok=True)
    migrate(settings.resolved_database_url)


def build_store(settings: Settings) -> SqlStore:
    return SqlStore(make_engine(settings.resolved_database_url), SystemClock().now)


def build_access(settings: Settings, store: SqlStore | None = None) -> Access:
    issuers = [Issuer(url, audience) for url, audience in settings.issuers]
    return Access(
        store or build_store(settings),
        SystemClock(),
        new_hex,
        issuers=issuers,
        issuer_keys=HttpIssuerKeys() if issuers else None,
        blobs=open_blobs(settings.resolved_blob_url),
        max_accounts=settings.max_accounts,
    )


def build_catalogue(settings: Settings) -> Catalogue:
    return load_catalogue(Path(settings.catalog) if settings.catalog else Path(__file__).parent / "catalog.toml")


def build_prices(settings: Settings) -> PriceList:
    return load_prices(Path(settings.prices) if settings.prices else Path(__file__).parent / "prices.toml")


def build_moderator(settings: Settings, catalogue: Catalogue) -> Moderator:
    """Raises ValueError when the setting cannot be followed."""
    from tailorbird.infra.moderation import BuiltinModerator, PassAll

    kind, where, form = settings.moderation
    if kind == "none":
        return PassAll()
    if kind == "openai":
        from tailorbird.infra.moderation.endpoint import EndpointModerator

        return EndpointModerator(where, settings.moderator_key, settings.moderator_model)
    if kind == "guard":
        from tailorbird.infra.moderation.guard import GuardModerator

        if where not in catalogue.bases or where not in settings.engines:
            raise ValueError(
                f"moderator: the guard {where!r} needs a [base.{where}] in the catalogue and an engine URL"
            )
        return GuardModerator(
            HttpEngines(settings.engines, acting.facts).of(where), catalogue.renderer(where), where, form
        )
    return BuiltinModerator(Path(__file__).parent / "moderation" / "classifier.npz")


def _limits(settings: Settings) -> Limits:
    return Limits(
        standard_deployments=settings.max_deployments,
        tuned_deployments=settings.max_tuned_deployments,
        quota=settings.quota_capacity,
        rate_limits=settings.rate_limits,
        idle_days=settings.idle_days,
        developer_hours=settings.developer_hours,
        jobs=settings.max_jobs,
        queued_jobs=settings.max_queued_jobs,
        tuning_files=settings.max_files,
        tuning_bytes=settings.max_files_bytes,
    )


def _build_files(settings: Settings, store: SqlStore, blobs: Blobs) -> tuple[Files, Imports, Uploads]:
    """The three ways in for bytes."""
    from tailorbird.infra.web import HttpWeb
    from tailorbird.service.files import Files
    from tailorbird.service.imports import Imports
    from tailorbird.service.uploads import Uploads

    clock = SystemClock()
    files = Files(
        store,
        blobs,
        clock,
        new_hex,
        settings.max_file_bytes,
        max_files=settings.max_files,
        max_files_bytes=settings.max_files_bytes,
    )
    web = HttpWeb(settings.import_host_list, private=settings.import_private)
    imports = Imports(store, blobs, clock, new_hex, files, web)
    uploads = Uploads(
        store, blobs, clock, new_hex, files, settings.max_upload_bytes, life_seconds=settings.upload_seconds
    )
    return files, imports, uploads


def build_services(settings: Settings, addresses: Addresses) -> Services:
    """What the server's routes call."""
    from tailorbird.api.app import Services
    from tailorbird.infra.sandbox import Bubblewrap
    from tailorbird.service.asking import ChatAsker
    from tailorbird.service.chat import Chat
    from tailorbird.service.deployments import Deployments
    from tailorbird.service.evals import Evals
    from tailorbird.service.evals.running import EvalRuns
    from tailorbird.service.filtering import ContentFilter
    from tailorbird.service.graders import Graders
    from tailorbird.service.inference import Inference
    from tailorbird.service.previews import Previews

    clock = SystemClock()
    store, blobs, registry = _build_counted(settings)
    catalogue = build_catalogue(settings)
    adapters = Adapters(blobs, settings.folder / "adapters")
    files, imports, uploads = _build_files(settings, store, blobs)
    engines = HttpEngines(settings.engines, acting.facts)
    prices = build_prices(settings)
    deployments = Deployments(store, adapters, engines, catalogue, clock, limits=_limits(settings), prices=prices)
    jobs = _jobs(settings, store, catalogue, prices)
    cost = _build_cost(settings, store, blobs, catalogue, prices, jobs, deployments)
    access = build_access(settings, store)
    models = Models(store, blobs, catalogue, clock)
    rates = Rates(clock, enabled=settings.rate_limits)
    content = ContentFilter(store, build_moderator(settings, catalogue), settings.thresholds)
    inference = Inference(catalogue, deployments, rates, clock, new_hex, cost.tokens, content)
    stored = StoredCompletions(store)
    chat = Chat(inference, stored)
    asker = ChatAsker(chat)
    graders = Graders(asker, Bubblewrap(settings.python_graders))
    return Services(
        access=access,
        audit=Audit(store),
        files=files,
        imports=imports,
        uploads=uploads,
        previews=Previews(files, models, catalogue),
        jobs=jobs,
        cost=cost,
        models=models,
        deployments=deployments,
        chat=chat,
        prompts=Prompts(inference),
        embedder=Embedder(inference),
        stored=stored,
        graders=graders,
        evals=Evals(store, graders, clock, new_hex),
        eval_runs=EvalRuns(store, blobs, graders, asker, clock),
        sharing=Sharing(store, access, Copies(store, adapters, catalogue, clock), models, clock),
        addresses=addresses,
        sweeps=(deployments.end_expired, files.sweep, uploads.sweep, cost.sweep),
        sweep_seconds=settings.sweep_seconds,
        registry=registry,
        metrics_public=settings.metrics_public,
    )


def _build_counted(settings: Settings) -> tuple[SqlStore, Blobs, CollectorRegistry]:
    """What the use cases stand on, and the figures of it."""
    clock, registry = SystemClock(), new_registry()
    database = make_engine(settings.resolved_database_url)
    StoreFigures(database, clock.now, registry)
    return SqlStore(database, clock.now), MeteredBlobs(open_blobs(settings.resolved_blob_url), registry), registry


def _build_cost(
    settings: Settings,
    store: SqlStore,
    blobs: Blobs,
    catalogue: Catalogue,
    prices: PriceList,
    jobs: Jobs,
    deployments: Deployments,
) -> Cost:
    from tailorbird.infra.journal import FileJournals
    from tailorbird.service.usage import Cost
    from tailorbird.service.usage.budgets import Budgets
    from tailorbird.service.usage.estimates import Estimator
    from tailorbird.service.usage.hosting import HostingMeter
    from tailorbird.service.usage.reports import Reports
    from tailorbird.service.usage.tariff import Tariff
    from tailorbird.service.usage.tokens import TokenMeter

    free = unpriced(prices, catalogue)
    if free:
        log.warning("models without a price are free", extra={"models": free, "price_list": prices.version})
    clock = SystemClock()
    return Cost(
        tokens=TokenMeter(store, prices, FileJournals(settings.folder / "usage"), clock),
        hosting=HostingMeter(store, prices, clock),
        budgets=Budgets(store, prices, clock),
        estimator=Estimator(
            store,
            blobs,
            catalogue,
            jobs.draft,
            prices,
            wait=time.sleep if settings.calibrate else None,
            screened=settings.moderation[0] != "none",
        ),
        reports=Reports(store, prices),
        tariff=Tariff(catalogue, prices),
        deployments=deployments,
    )


def _jobs(settings: Settings, store: SqlStore, catalogue: Catalogue, prices: PriceList) -> Jobs:
    from tailorbird.infra.tracking import wandb_is_installed
    from tailorbird.service.jobs import Jobs

    return Jobs(
        store,
        catalogue,
        SystemClock(),
        new_hex,
        settings.max_queued_jobs,
        max_jobs=settings.max_jobs,
        tracking=wandb_is_installed(),
        prices=prices,
    )


def build_worker(settings: Settings) -> Worker:
    from tailorbird.infra.leases import SqlLeases
    from tailorbird.infra.tracking import WandbTracker, wandb_is_installed
    from tailorbird.infra.trainer import LocalTrainer
    from tailorbird.service.pipeline import Options, Pipeline
    from tailorbird.worker import Worker

    clock = SystemClock()
    engine = make_engine(settings.resolved_database_url)
    store, registry = SqlStore(engine, clock.now), new_registry()
    blobs = MeteredBlobs(open_blobs(settings.resolved_blob_url), registry)
    catalogue = build_catalogue(settings)
    trainer = LocalTrainer({**os.environ, **as_environment(settings)}, settings.processes_per_job)
    pipeline = Pipeline(
        store,
        blobs,
        Adapters(blobs, settings.folder / "adapters"),
        MeteredTrainer(_together(settings) if settings.jobs_together > 1 else trainer, registry),
        HttpEngines(settings.engines, acting.facts),
        build_moderator(settings, catalogue),
        catalogue,
        clock,
        Options(
            runs_folder=settings.folder / "runs",
            organization=settings.organization,
            prove_tolerance=settings.resolved_prove_tolerance,
            save_every=settings.save_every,
            threads=settings.train_threads,
            dtype=settings.engine_dtype,
            max_crashes=settings.max_attempts,
            max_job_tokens=settings.max_job_tokens,
            max_job_hours=settings.max_job_hours,
            thresholds=settings.thresholds,
            max_harm_rate=settings.max_harm_rate,
            moderated_by=f"{settings.moderator} {settings.moderator_model}".strip(),
            moderator_patience=settings.moderator_patience,
        ),
        WandbTracker(settings.folder) if wandb_is_installed() else None,
        build_prices(settings),
    )
    owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    return Worker(
        owner,
        SqlLeases(engine),
        store,
        pipeline,
        clock,
        lease_seconds=settings.lease_seconds,
        poll_seconds=settings.poll_seconds,
        max_attempts=settings.max_attempts,
        jobs_at_once=settings.worker_jobs,
        jobs_together=max(1, settings.jobs_together),
        running_per_account=settings.max_running_jobs,
        registry=registry,
        calibrator=_calibrator(settings, store, trainer, catalogue) if settings.calibrate else None,
    )


def _together(settings: Settings) -> Trainer:
    from tailorbird.infra.together import TogetherTrainer

    return TogetherTrainer({**os.environ, **as_environment(settings)}, settings.jobs_together)


def _calibrator(settings: Settings, store: SqlStore, trainer: Trainer, catalogue: Catalogue) -> Calibrator:
    from tailorbird.service.runs import TrainerOptions
    from tailorbird.service.usage.calibration import Calibrator

    options = TrainerOptions(settings.save_every, settings.train_threads, settings.engine_dtype)
    folder = settings.folder / "runs"
    return Calibrator(store, trainer, catalogue, SystemClock(), folder, options, socket.gethostname())


def expose_worker(settings: Settings, worker: Worker) -> None:
    """Shows the worker's metrics where the settings say. Raises OSError when the port is taken."""
    if settings.worker_metrics_port:
        expose(worker.registry, "0.0.0.0" if settings.metrics_public else "127.0.0.1", settings.worker_metrics_port)
