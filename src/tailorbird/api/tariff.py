"""Route of the tariff: which models can be tuned here, what they really are and what they cost."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response

from tailorbird.api.auth import allow
from tailorbird.api.bodies import listing
from tailorbird.api.context import Given, only_query
from tailorbird.domain.access import Account, Action
from tailorbird.domain.pricing import PriceList
from tailorbird.service.usage.reports import plain
from tailorbird.service.usage.tariff import Line

router = APIRouter(tags=["cost"])

PATH = "/tariff"

Reader = Annotated[Account, Depends(allow(Action.READ_MODEL))]


@router.get(PATH, dependencies=[Depends(only_query())])
def show_tariff(_: Reader, services: Given) -> Response:
    """All of it in one page: the catalogue is the operator's and short."""
    tariff = services.cost.tariff
    return JSONResponse(listing([_line(line, tariff.prices) for line in tariff.lines()], has_more=False))


def _line(line: Line, prices: PriceList) -> dict[str, Any]:
    meter = line.prices.training_meter
    return {
        "id": line.entry.name,
        "object": "tariff.line",
        "base_model": line.base.key,
        "max_tokens": line.base.max_tokens,
        "lora_rank": line.base.lora_rank,
        "methods": [method.value for method in line.methods],
        "training": {"meter": meter.value, "unit_price": plain(line.prices.of(meter))},
        "hosting_hour": plain(line.prices.hosting_hour),
        "input_1k": plain(line.prices.input_tokens),
        "output_1k": plain(line.prices.output_tokens),
        "currency": prices.currency,
        "price_list": prices.version,
    }
