"""Route of embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from tailorbird.api.answers import limit_headers
from tailorbird.api.auth import allow
from tailorbird.api.bodies import read_body
from tailorbird.api.bodies.inference import EmbeddingBody
from tailorbird.api.chat import model_of, version_of
from tailorbird.api.context import Given, Spoken, only_query
from tailorbird.api.events import while_connected
from tailorbird.api.shapes import EmbeddingList
from tailorbird.domain.access import Account, Action
from tailorbird.service.answers import EmbeddingAsk, Vectors

router = APIRouter(tags=["inference"])

Asker = Annotated[Account, Depends(allow(Action.EMBED))]


@router.post("/embeddings", dependencies=[Depends(only_query())], response_model=EmbeddingList)
async def embed(
    request: Request,
    account: Asker,
    body: Annotated[EmbeddingBody, Depends(read_body(EmbeddingBody))],
    services: Given,
    dialect: Spoken,
) -> Response:
    ask = EmbeddingAsk(model_of(request, body.model), body.inputs, body.dimensions, version_of(request))
    work = services.embedder.embed(account.id, ask, direct_models=dialect.direct_models)
    made = await while_connected(request, work)
    return JSONResponse(_answer(made, body.encoding_format == "base64"), headers=limit_headers(made.allowance))


def _answer(made: Vectors, packed: bool) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
        for index, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens}
    return {"object": "list", "model": made.model, "data": data, "usage": usage}


def _packed(vector: Sequence[float]) -> str:
    """Little-endian float32, which is what SDKs ask for when their caller says nothing."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
