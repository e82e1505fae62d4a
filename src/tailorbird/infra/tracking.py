"""Weights & Biases behind the port Tracker; the package is an extra and is imported when the first run starts."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tailorbird.domain.jobs import Job, WandbIntegration
from tailorbird.service.ports import TrackerRun

log = logging.getLogger(__name__)

_PACKAGE = "wandb"
_ASK_SECONDS = 5.0
_CONNECT_SECONDS = 15.0
_FINISH_SECONDS = 5.0


def wandb_is_installed() -> bool:
    return importlib.util.find_spec(_PACKAGE) is not None


class WandbTracker:
    """A run is written to `folder`/wandb, and sent while it is written when there is a key and a network.

    `wandb sync FOLDER/wandb/offline-run-*` sends what stayed here. A job that is gone on with goes on in the same run:
    its trainer's story is read again from the first step, so the newest folder of a run is whole and the ones before it
    are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, job: Job, integration: WandbIntegration, run_id: str, key: str | None) -> TrackerRun | None:
        try:
            # Read when the package is imported: faults of ours are none of the vendor's business.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            wandb: Any = importlib.import_module(_PACKAGE)
            return WandbRun(self._open(wandb, job, integration, run_id, key), job.id)
        except Exception:
            # Tracking is a courtesy: whatever the package raises, the job goes on without it.
            log.exception("no run at Weights & Biases", extra={"job": job.id})
            return None

    def _open(self, wandb: Any, job: Job, integration: WandbIntegration, run_id: str, key: str | None) -> Any:
        # Asked first, as the package holds on to a run's id when it could not open the run.
        if key is not None and _takes(str(wandb.Settings().base_url), key):
            return self._init(wandb, job, integration, run_id, "online", api_key=key)
        if key is not None:
            log.warning("Weights & Biases is away or refuses the key; the run stays here", extra={"job": job.id})
        for earlier in (self._folder / _PACKAGE).glob(f"offline-run-*-{run_id}"):
            shutil.rmtree(earlier, ignore_errors=True)
        return self._init(wandb, job, integration, run_id, "offline")

    def _init(self, wandb: Any, job: Job, integration: WandbIntegration, run_id: str, mode: str, **secrets: str) -> Any:
        settings = wandb.Settings(
            mode=mode,
            silent=True,
            console="off",
            init_timeout=_CONNECT_SECONDS,
            login_timeout=_CONNECT_SECONDS,
            # What the machine is and what runs on it is the operator's, not the account's.
            disable_git=True,
            disable_code=True,
            host="tailorbird",
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            **secrets,
        )
        return wandb.init(
            project=integration.project,
            entity=integration.entity,
            name=integration.name or job.id,
            tags=["openai/finetune", f"openai/{job.model}", f"openai/{job.id}", *integration.tags],
            id=run_id,
            resume="allow" if mode == "online" else None,
            # One process may train several jobs.
            reinit="create_new",
            dir=str(self._folder),
            config=_config(job),
            settings=settings,
        )


def _takes(base_url: str, key: str) -> bool:
    """Whether the service answers and knows the key."""
    question = {"query": "query Viewer { viewer { id } }"}
    try:
        answer = httpx.post(f"{base_url}/graphql", json=question, auth=("api", key), timeout=_ASK_SECONDS)
        return answer.is_success and bool(answer.json()["data"]["viewer"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return False


class WandbRun:
    """Logs until the package fails for the first time; then the operator's log says so, once."""

    def __init__(self, run: Any, job_id: str) -> None:
        self._run = run
        self._job_id = job_id
        self._broken = False

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._do(lambda: self._run.log(dict(metrics), step=step))

    def finish(self, failed: bool) -> None:
        # A slow network must not hold the worker up: sending goes on beside it; what is not sent lies in the folder.
        closing = threading.Thread(
            target=self._do, args=(lambda: self._run.finish(exit_code=int(failed)),), name="wandb-finish", daemon=True
        )
        closing.start()
        closing.join(_FINISH_SECONDS)

    def _do(self, call: Any) -> None:
        if self._broken:
            return
        try:
            call()
        except Exception:
            self._broken = True
            log.exception("Weights & Biases stopped taking metrics", extra={"job": self._job_id})


def _config(job: Job) -> dict[str, Any]:
    chosen = job.resolved or job.asked
    return {
        "job": job.id,
        "model": job.model,
        "method": job.method.value,
        "seed": job.seed,
        "n_epochs": chosen.n_epochs,
        "batch_size": chosen.batch_size,
        "learning_rate_multiplier": chosen.learning_rate_multiplier,
        **({} if chosen.beta is None else {"beta": chosen.beta}),
        "training_file": job.training_file,
        "validation_file": job.validation_file,
    }
