"""Routes of an account's key at Weights & Biases: ours, as neither vendor has them in its API."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.jobs import WandbKeyBody
from tailorbird.api.context import Given, only_query
from tailorbird.api.shapes import WandbKeyObject
from tailorbird.domain.access import Account, Action

router = APIRouter(tags=["fine-tuning"])

PATH = "/fine_tuning/integrations/wandb"

Reader = Annotated[Account, Depends(allow(Action.READ_JOB))]
Writer = Annotated[Account, Depends(allow(Action.WRITE_JOB))]


@router.get(PATH, dependencies=[Depends(only_query())], response_model=WandbKeyObject)
def get_wandb(account: Reader, services: Given) -> Response:
    return JSONResponse(_render(services.jobs.has_wandb_key(account.id)))


@router.put(PATH, dependencies=[Depends(only_query())], response_model=WandbKeyObject)
def put_wandb(
    account: Writer, body: Annotated[WandbKeyBody, Depends(read_body(WandbKeyBody))], services: Given
) -> Response:
    services.jobs.set_wandb_key(account.id, body.api_key)
    return JSONResponse(_render(True))


@router.delete(PATH, dependencies=[Depends(only_query())], response_model=WandbKeyObject)
def delete_wandb(account: Writer, services: Given) -> Response:
    services.jobs.set_wandb_key(account.id, None)
    return JSONResponse(_render(False))


def _render(has_key: bool) -> dict[str, Any]:
    """The key itself is shown to nobody."""
    return {"object": "fine_tuning.integration", "type": "wandb", "has_key": has_key}
