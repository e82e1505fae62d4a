"""What a model name stands for: a base model of the catalogue, a fine-tuned model, or a checkpoint of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tailorbird.domain import ids
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.models import CatalogueEntry
from tailorbird.domain.safety import model_message
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Session

FORMAT = "OpenAI"
_TUNED_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Source:
    """`checkpoint_id` None is the plain base model; the two served names are what answers carry on either surface.

    `template_hash` is the chat template a fine-tuned one was trained with."""

    served_azure: str
    served_openai: str
    base: str
    checkpoint_id: str | None
    catalogue_name: str
    template_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint and what it was trained on, as its model or its job says."""

    checkpoint: Checkpoint
    catalogue_name: str
    base: str
    template_hash: str


@dataclass(frozen=True, slots=True)
class Asked:
    """`properties.model` of a deployment; `version` None leaves it to us."""

    name: str
    format: str
    version: str | None


def find_source(tx: Session, catalogue: Catalogue, account_id: str, name: str) -> Source | None:
    """By either surface's name, by a checkpoint's name or id. None when nothing can be served under it."""
    entry = catalogue.entry(name)
    if entry is not None:
        return Source(entry.name, entry.name, entry.base, None, entry.name)
    model = tx.models.find(account_id, name)
    if model is not None:
        return Source(
            model.name, model.openai_name, model.base, model.checkpoint_id, model.catalogue_name, model.template_hash
        )
    trained = find_checkpoint(tx, account_id, name)
    if trained is None or not trained.checkpoint.deployable:
        return None
    shown = trained.checkpoint
    return Source(shown.name, shown.openai_name, trained.base, shown.id, trained.catalogue_name, trained.template_hash)


def find_checkpoint(tx: Session, account_id: str, name: str) -> Trained | None:
    """By either surface's id or name, deployable or not; the last one has its model's name."""
    checkpoint = tx.jobs.find_checkpoint(account_id, ids.as_checkpoint_id(name))
    if checkpoint is None:
        return None
    # The job may be deleted by now, its model not: without a model only a job that was paused has something to show.
    model = next((model for model in tx.models.list(account_id) if model.job_id == checkpoint.job_id), None)
    if model is not None:
        return Trained(checkpoint, model.catalogue_name, model.base, model.template_hash)
    job = tx.jobs.get(account_id, checkpoint.job_id)
    if job is None or job.template_hash is None:
        return None
    return Trained(checkpoint, job.model, job.base, job.template_hash)


def source_to_deploy(
    tx: Session, catalogue: Catalogue, account_id: str, asked: Asked, today: date
) -> tuple[Source, str]:
    """What shall be served, and its version. Raises InvalidRequest with ARM's code DeploymentModelNotSupported."""
    # The control plane names a base model and its version apart: gpt-35-turbo, 1106.
    exact = catalogue.entry(f"{asked.name}-{asked.version}") if asked.version else None
    source = find_source(tx, catalogue, account_id, asked.name if exact is None else exact.name)
    if source is None:
        _refuse_harmful(tx, account_id, asked.name)
    if source is None or asked.format.lower() != FORMAT.lower():
        raise _unsupported(asked)
    entry = catalogue.entry(source.catalogue_name) if source.checkpoint_id is None else None
    version = _TUNED_VERSION if entry is None else entry.version
    if asked.version not in (None, "", version):
        raise _unsupported(asked, f" This one's version is '{version}'.")
    if entry is not None:
        _refuse_retired(entry, today)
    stale = template_fault(catalogue, source.served_azure, source.base, source.template_hash)
    if stale is not None:
        raise InvalidRequest(stale, param="properties.model", code="DeploymentModelNotSupported")
    return source, version


def template_fault(catalogue: Catalogue, model: str, base: str, template_hash: str | None) -> str | None:
    """Why a fine-tuned model cannot be served as it was trained: its base renders conversations otherwise by now."""
    if not template_hash or base not in catalogue.bases:
        return None
    if catalogue.renderer(base).template_hash == template_hash:
        return None
    return (
        f"The chat template of the base model '{base}' has changed since '{model}' was fine-tuned on it, so it would "
        "answer to prompts it was not trained on. Fine-tune it again, or have the operator put the earlier template "
        f"back into the folder of '{base}'."
    )


def _unsupported(asked: Asked, hint: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"The model 'Format:{asked.format},Name:{asked.name},Version:{asked.version or ''}' of account deployment is "
        f"not supported.{hint} Name a base model of the catalogue (GET /openai/models) with its version, or a "
        f"fine-tuned model or checkpoint of this account whose job has succeeded with version "
        f"'{_TUNED_VERSION}'; the format is '{FORMAT}'.",
        param="properties.model",
        code="DeploymentModelNotSupported",
    )


def _refuse_harmful(tx: Session, account_id: str, name: str) -> None:
    """Says of a checkpoint whose answers are harmful that this is why it cannot be deployed. Raises InvalidRequest."""
    checkpoint = tx.jobs.find_checkpoint(account_id, ids.as_checkpoint_id(name))
    verdict = None if checkpoint is None else tx.verdicts.newest(checkpoint.id)
    if verdict is not None and verdict.harms:
        raise InvalidRequest(model_message(verdict.harms), param="properties.model", code="DeploymentModelNotSupported")


def _refuse_retired(entry: CatalogueEntry, today: date) -> None:
    if entry.inference_until is not None and today > entry.inference_until:
        raise InvalidRequest(
            f"The model '{entry.name}' was retired on {entry.inference_until} and can no longer be deployed.",
            param="properties.model",
            code="ServiceModelDeprecated",
        )
