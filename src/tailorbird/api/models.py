"""Routes of models: list, get, delete; the catalogue's entries and an account's fine-tuned models alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.context import Given, Services, Spoken, only_query
from tailorbird.api.dialects import Dialect
from tailorbird.api.shapes import Deleted, ModelList, ModelObject
from tailorbird.domain.access import Account, Action
from tailorbird.domain.models import CatalogueEntry, TunedModel

router = APIRouter(tags=["models"])

Reader = Annotated[Account, Depends(allow(Action.READ_MODEL))]
Deleter = Annotated[Account, Depends(allow(Action.DELETE_MODEL))]


@router.get("/models", dependencies=[Depends(only_query())], response_model=ModelList)
def list_models(account: Reader, services: Given, dialect: Spoken) -> Response:
    """All in one page: SDKs do not page models."""
    data = [render(model, services, dialect) for model in services.models.list(account.id)]
    return JSONResponse({"object": "list", "data": data, "has_more": False})


# Names carry dots and colons; a slash in one would still be part of it.
@router.get("/models/{model:path}", dependencies=[Depends(only_query())], response_model=ModelObject)
def get_model(model: str, account: Reader, services: Given, dialect: Spoken) -> Response:
    return JSONResponse(render(services.models.get(account.id, model), services, dialect))


@router.delete("/models/{model:path}", dependencies=[Depends(only_query())], response_model=Deleted)
def delete_model(model: str, account: Deleter, services: Given) -> Response:
    services.models.delete(account.id, model)
    return JSONResponse({"id": model, "object": "model", "deleted": True})


def render(model: CatalogueEntry | TunedModel, services: Services, dialect: Dialect) -> dict[str, Any]:
    """The union of Azure's and OpenAI's fields, and what really stands behind the name."""
    tuned = model if isinstance(model, TunedModel) else None
    entry = services.models.entry_of(model)
    created = int(model.created_at.timestamp())
    deprecation = {
        "fine_tune": None if entry is None or tuned else _seconds(entry.fine_tune_until),
        "inference": None if entry is None else _seconds(entry.inference_until),
    }
    return dialect.trim(
        {
            "id": dialect.model_name(tuned.name, tuned.openai_name) if tuned else model.name,
            "object": "model",
            "created": created,
            "created_at": created,
            "owned_by": "tailorbird" if tuned is None else f"org-{tuned.account_id}",
            "status": "succeeded",
            "lifecycle_status": "generally-available",
            "capabilities": {
                "fine_tune": entry is None or entry.tunable,
                "inference": True,
                "completion": entry is not None and entry.completion,
                "chat_completion": entry is not None and entry.chat,
                "embeddings": entry is not None and entry.embeddings,
            },
            "deprecation": {key: value for key, value in deprecation.items() if value is not None},
            "model": tuned.catalogue_name if tuned else None,
            "fine_tune": tuned.job_id if tuned else None,
            # Not the vendors': which weights answer to this name here.
            "base_model": model.base,
            "tailorbird": {"base_model": model.base, "context_tokens": services.models.context_tokens(model)},
        }
    )


def _seconds(day: date | None) -> int | None:
    return None if day is None else int(datetime.combine(day, time(), UTC).timestamp())
