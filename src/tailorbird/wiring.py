"""Builds services from Settings: the one place where a port meets its implementation.

Imports stand inside the functions where one process would otherwise carry another's libraries: the worker needs no web
framework.
"""

from __future__ import annotations

import os
import secrets
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.engine import HttpEngines
from tailorbird.infra.schema import make_engine, migrate
from tailorbird.infra.store import SqlStore
from tailorbird.service.access import Access
from tailorbird.service.adapters import Adapters
from tailorbird.service.models import Catalogue, load_catalogue
from tailorbird.settings import Settings, as_environment

if TYPE_CHECKING:
    from tailorbird.api.app import Addresses, Services
    from tailorbird.worker import Worker


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


def build_access(settings: Settings) -> Access:
    return Access(build_store(settings), SystemClock(), new_hex)


def build_catalogue(settings: Settings) -> Catalogue:
    return load_catalogue(Path(settings.catalog) if settings.catalog else Path(__file__).parent / "catalog.toml")


def build_services(settings: Settings, addresses: Addresses) -> Services:
    """What the server's routes call."""
    from tailorbird.api.app import Services
    from tailorbird.service.chat import Chat
    from tailorbird.service.deployments import Deployments
    from tailorbird.service.files import Files
    from tailorbird.service.jobs import Jobs
    from tailorbird.service.models import Models

    clock = SystemClock()
    store = build_store(settings)
    blobs = open_blobs(settings.resolved_blob_url)
    catalogue = build_catalogue(settings)
    adapters = Adapters(blobs, settings.folder / "adapters")
    deployments = Deployments(store, adapters, HttpEngines(settings.engines), catalogue, clock)
    return Services(
        access=Access(store, clock, new_hex),
        files=Files(store, blobs, clock, new_hex, settings.max_file_bytes),
        jobs=Jobs(store, catalogue, clock, new_hex, settings.max_queued_jobs),
        models=Models(store, blobs, catalogue),
        deployments=deployments,
        chat=Chat(catalogue, deployments, clock, new_hex),
        addresses=addresses,
    )


def build_worker(settings: Settings) -> Worker:
    from tailorbird.infra.leases import SqlLeases
    from tailorbird.infra.moderation import PassAll
    from tailorbird.infra.trainer import LocalTrainer
    from tailorbird.service.pipeline import Options, Pipeline
    from tailorbird.worker import Worker

    clock = SystemClock()
    engine = make_engine(settings.resolved_database_url)
    store = SqlStore(engine, clock.now)
    blobs = open_blobs(settings.resolved_blob_url)
    pipeline = Pipeline(
        store,
        blobs,
        Adapters(blobs, settings.folder / "adapters"),
        LocalTrainer({**os.environ, **as_environment(settings)}),
        HttpEngines(settings.engines),
        PassAll(),
        build_catalogue(settings),
        clock,
        Options(
            runs_folder=settings.folder / "runs",
            organization=settings.organization,
            prove_tolerance=settings.resolved_prove_tolerance,
            save_every=settings.save_every,
            threads=settings.train_threads,
            dtype=settings.engine_dtype,
            max_crashes=settings.max_attempts,
        ),
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
    )
