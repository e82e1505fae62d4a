"""What a model name stands for: a base model of the catalogue, a fine-tuned model, or a checkpoint of one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.models import CatalogueEntry
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Session

FORMAT = "OpenAI"
_TUNED_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Source:
    """`checkpoint_id` None is the plain base model; the two served names are what answers carry on either surface."""

    served_azure: str
    served_openai: str
    base: str
    checkpoint_id: str | None
    catalogue_name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """`properties.model` of a deployment; `version` None leaves it to us."""

    name: str
    format: str
    version: str | None


def find_source(tx: Session, catalogue: Catalogue, account_id: str, name: str) -> Source | None:
    """By either surface's name, by checkpoint name or by `ftchkpt-` id. None when nothing can be served under it."""
    entry = catalogue.entry(name)
    if entry is not None:
        return Source(entry.name, entry.name, entry.base, None, entry.name)
    model = tx.models.find(account_id, name)
    if model is not None:
        return Source(model.name, model.openai_name, model.base, model.checkpoint_id, model.catalogue_name)
    checkpoint = tx.jobs.find_checkpoint(account_id, name)
    if checkpoint is None or not checkpoint.deployable:
        return None
    # The job may be deleted by now; its model may not, or the checkpoint would not be deployable.
    model = next((model for model in tx.models.list(account_id) if model.job_id == checkpoint.job_id), None)
    if model is None:
        return None
    shown = model if checkpoint.final else checkpoint
    return Source(shown.name, shown.openai_name, model.base, checkpoint.id, model.catalogue_name)


def source_to_deploy(
    tx: Session, catalogue: Catalogue, account_id: str, asked: Asked, today: date
) -> tuple[Source, str]:
    """What shall be served, and its version. Raises InvalidRequest with ARM's code DeploymentModelNotSupported."""
    source = find_source(tx, catalogue, account_id, asked.name)
    if source is None or asked.format.lower() != FORMAT.lower():
        raise _unsupported(asked)
    entry = catalogue.entry(source.catalogue_name) if source.checkpoint_id is None else None
    version = _TUNED_VERSION if entry is None else entry.version
    if asked.version not in (None, "", version):
        raise _unsupported(asked, f" This one's version is '{version}'.")
    if entry is not None:
        _refuse_retired(entry, today)
    return source, version


def _unsupported(asked: Asked, hint: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"The model 'Format:{asked.format},Name:{asked.name},Version:{asked.version or ''}' of account deployment is "
        f"not supported.{hint} Name a base model of the catalogue (GET /openai/models) with its version, or a "
        f"fine-tuned model or checkpoint of this account whose job has succeeded with version "
        f"'{_TUNED_VERSION}'; the format is '{FORMAT}'.",
        param="properties.model",
        code="DeploymentModelNotSupported",
    )


def _refuse_retired(entry: CatalogueEntry, today: date) -> None:
    if entry.inference_until is not None and today > entry.inference_until:
        raise InvalidRequest(
            f"The model '{entry.name}' was retired on {entry.inference_until} and can no longer be deployed.",
            param="properties.model",
            code="ServiceModelDeprecated",
        )
