"""What a deployment would allow and cost, as a list of facts beside the form."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio.pages.amounts import money
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_MONTH_HOURS = 730


def lines(t: Words, told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of an answer of `/deployments/estimate`."""
    price: Mapping[str, Any] = told["price"]
    hour, currency = Decimal(str(price["hour"])), str(price["currency"])
    rows: list[tuple[str, str]] = []
    if told["tokens_per_minute"] is not None:
        rates = {
            "tokens": t.number(told["tokens_per_minute"]),
            "requests": t.number(told["requests_per_minute"]),
        }
        rows.append((t("deployments.rate"), t("deployments.rates", **rates)))
    else:
        rows.append((t("deployments.rate"), t("deployments.no_limit")))
    quota: Mapping[str, Any] = told["quota"]
    left = t("deployments.quota_left", left=t.number(quota["left"]), limit=t.number(quota["limit"]))
    rows.append((t("deployments.quota"), left))
    if hour:
        month = money(t, hour * _MONTH_HOURS, currency)
        paid = t("deployments.hour_and_month", hour=money(t, hour, currency), month=month)
    else:
        paid = t("deployments.free_hour")
    rows.append((t("deployments.hosting"), paid))
    tokens = [Decimal(str(price[name])) for name in ("input_1k", "output_1k")]
    if any(tokens):
        asked, said = (money(t, one, currency, exact=True) for one in tokens)
        rows.append((t("deployments.tokens"), t("deployments.token_prices", input=asked, output=said)))
    if told["developer_hours"] is not None:
        rows.append((t("deployments.ends"), t("deployments.after_hours", hours=_plain(t, told["developer_hours"]))))
    elif told["idle_days"] is not None:
        rows.append((t("deployments.ends"), t("deployments.after_days", days=_plain(t, told["idle_days"]))))
    return rows


def show(visit: Visit, told: Mapping[str, Any]) -> None:
    t = visit.t
    if told.get("deployed_as"):
        with ui.element("div").classes("warning").props("role=status"):
            ui.label(t("deployments.already", name=told["deployed_as"])).classes("inline")
            ui.link(t("deployments.show"), f"/deployments/{quote(str(told['deployed_as']))}").classes("deploy-inline")
    facts(lines(t, told))


def facts(rows: list[tuple[str, str]]) -> None:
    """Names and values, side by side where there is room."""
    with ui.element("dl").classes("keyfacts"):
        for name, value in rows:
            with ui.element("div"):
                with ui.element("dt"):
                    ui.label(name).classes("inline")
                with ui.element("dd"):
                    ui.label(value).classes("inline")


def _plain(t: Words, number: float) -> str:
    return t.number(number, 0 if number == round(number) else 1)
