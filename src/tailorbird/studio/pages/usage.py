"""What was used and what it cost, by day, model and deployment; the budget; the quota; the audit trail."""

from __future__ import annotations

import asyncio
from typing import Any

from nicegui import ui

from tailorbird.studio import visit as rights
from tailorbird.studio.client import Refused
from tailorbird.studio.controls import attempt, button, card, confirm, empty, heading, title
from tailorbird.studio.pages.amounts import METERS, by_day, in_use, money, totals
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import Visit

_MONTHS = ("this", "last", "year")
_ENTRIES = 25


async def page(visit: Visit) -> None:
    t = visit.t
    title(visit, t("usage.title"), t("usage.lead"))
    reason = visit.refusal(rights.READ_USAGES)
    if reason is not None and visit.api.session.kind != "key":
        with card():
            ui.label(reason).classes("reason")
        return
    kept = visit.kept("usage")
    with ui.element("div") as cost:
        pass

    async def show() -> None:
        await _cost(visit, cost, str(kept.get("span", "this")))

    with cost:
        await show()
    with card(t("usage.budget")) as _, ui.element("div") as place:
        await _budget(visit, place)
    if reason is None:
        await _quota(visit)
        await _audit(visit)


async def _cost(visit: Visit, place: ui.element, span: str) -> None:
    t = visit.t
    start, end = in_use(span)
    asked = {"start": start, "end": end}
    days, models, deployments = await asyncio.gather(
        *(
            visit.api.own("GET", "/usage", params={**asked, "group_by": group})
            for group in ("day", "model", "deployment")
        )
    )
    place.clear()
    with place:
        with card():
            with ui.element("div").classes("spread"):
                with ui.element("div"):
                    ui.label(t("usage.spent")).classes("quiet")
                    ui.label(money(visit.t, days["total"], days["currency"])).classes("figure")

                async def other(event: Any) -> None:
                    visit.kept("usage")["span"] = event.value
                    await _cost(visit, place, event.value)

                ui.select({one: t(f"usage.span.{one}") for one in _MONTHS}, value=span, on_change=other).props(
                    f'outlined dense aria-label="{t("usage.period")}"'
                ).classes("period")
            if not days["data"]:
                empty(t("usage.nothing"))
                return
            _chart(visit, days)
        with card(t("usage.by_model")):
            _table(visit, "model", models)
        with card(t("usage.by_deployment")):
            _table(visit, "deployment", deployments)
        with card(t("usage.by_day")):
            _table(visit, "day", days)
            _download(visit, start, {**asked, "group_by": "day", "format": "csv"})


def _download(visit: Visit, start: str, asked: dict[str, str]) -> None:
    async def fetch() -> None:
        text = await attempt(visit.api.own("GET", "/usage", params=asked))
        if text is not None:
            ui.download.content(str(text), f"usage-{start}.csv")

    button(visit, visit.t("usage.csv"), fetch, icon="download")


def _chart(visit: Visit, report: dict[str, Any]) -> None:
    days, series = by_day(report["data"])
    t = visit.t
    options: dict[str, Any] = {
        "animation": False,
        "grid": {"left": 56, "right": 12, "top": 36, "bottom": 28},
        "tooltip": {"trigger": "axis"},
        "legend": {"top": 0, "textStyle": {"color": "#7b8994"}},
        "xAxis": {"type": "category", "data": days, "axisLabel": {"color": "#7b8994"}},
        "yAxis": {
            "type": "value",
            "axisLabel": {"color": "#7b8994"},
            "splitLine": {"lineStyle": {"color": "#7b899440"}},
        },
        "series": [
            {"name": t(f"usage.meter.{meter}"), "type": "bar", "stack": "cost", "data": values, "barMaxWidth": 36}
            for meter, values in series.items()
        ],
    }
    label = t("usage.chart", currency=report["currency"])
    ui.echart(options).classes("chart").props(f'role=img aria-label="{label}"')


def _table(visit: Visit, group: str, report: dict[str, Any]) -> None:
    t, currency = visit.t, report["currency"]
    names = (group, "what", "quantity", "price", "amount")
    sheet = Sheet(t(f"usage.by_{group}"), [Column(t(f"usage.{n}"), number=n in names[2:]) for n in names])
    for row in totals(report["data"], group):
        digits = 0 if "token" in row["unit"] else 2
        sheet.texts(
            row[group] or "–",
            t(f"usage.meter.{row['meter']}") if row["meter"] in METERS else row["meter"],
            f"{t.number(float(row['quantity']), digits)} {row['unit']}",
            money(t, row["unit_price"], currency, exact=True),
            money(t, row["amount"], currency),
        )


async def _budget(visit: Visit, place: ui.element) -> None:
    t = visit.t
    place.clear()
    try:
        budget = await visit.api.own("GET", "/budget")
    except Refused as error:
        if error.status != 404:
            raise
        budget = None
    with place:
        if budget is None:
            ui.label(t("usage.no_budget")).classes("quiet")
        else:
            spent = float(budget["spent"]) / max(float(budget["amount"]), 0.01)
            ui.label(
                t(
                    "usage.budget_spent",
                    spent=money(t, budget["spent"], budget["currency"]),
                    amount=money(t, budget["amount"], budget["currency"]),
                    period=t(f"usage.each.{budget['period']}"),
                )
            )
            ui.linear_progress(min(spent, 1.0), show_value=False).props(
                f'color={"negative" if spent >= 1 else "primary"} aria-label="{t("usage.budget")}"'
            )
            if spent >= 0.5:
                ui.label(t("usage.budget_warning", percent=t.number(spent * 100))).classes("warning")
        _budget_form(visit, place, budget)


def _budget_form(visit: Visit, place: ui.element, budget: dict[str, Any] | None) -> None:
    t = visit.t
    actions = set(budget["actions"] if budget else ["stop_jobs"])
    told = ui.element("div")
    with ui.element("div").classes("row"):
        amount = ui.input(t("usage.budget_amount"), value=str(budget["amount"]) if budget else "").props(
            "outlined dense"
        )
        period = ui.select(
            {one: t(f"usage.each.{one}") for one in ("day", "month", "year")},
            value=budget["period"] if budget else "month",
            label=t("usage.period"),
        ).props("outlined dense")
        stops = ui.checkbox(t("usage.stop_jobs"), value="stop_jobs" in actions)
        retires = ui.checkbox(t("usage.retire"), value="retire_deployments" in actions)

    async def save() -> None:
        chosen = {"stop_jobs": stops.value, "retire_deployments": retires.value}
        body = {
            "amount": str(amount.value).strip(),
            "period": period.value,
            "actions": [name for name, on in chosen.items() if on],
        }
        if await attempt(visit.api.own("PUT", "/budget", json=body), told) is not None:
            await _budget(visit, place)

    async def remove() -> None:
        if not await confirm(visit, t("usage.remove_question"), t("usage.remove")):
            return
        if await attempt(visit.api.own("DELETE", "/budget"), told) is not None:
            await _budget(visit, place)

    with ui.element("div").classes("row"):
        button(visit, t("usage.set"), save, action=rights.WRITE_ACCOUNT, kind="primary")
        if budget is not None:
            button(visit, t("usage.remove"), remove, action=rights.WRITE_ACCOUNT, kind="danger")


async def _quota(visit: Visit) -> None:
    t, account = visit.t, visit.account
    assert account is not None
    scope = f"/subscriptions/{account.subscription}/providers/Microsoft.CognitiveServices/locations/{account.location}"
    counts, capacity = await asyncio.gather(
        visit.api.arm("GET", "/usages"), visit.api.arm("GET", "/usages", scope=scope)
    )
    with card(t("usage.quota")):
        ui.label(t("usage.quota_lead")).classes("quiet")
        # Capacity of models nobody has deployed says nothing: hundreds of zeros.
        used = [row for row in capacity["value"] if row["currentValue"]]
        for row in [*counts["value"], *used]:
            key = f"usage.count.{row['name']['value'].rsplit('.', 1)[-1]}"
            name = t(key) if row in counts["value"] else row["name"]["localizedValue"]
            _bar(visit, name, row["currentValue"], row["limit"], is_bytes=row["name"]["value"].endswith("Bytes"))


def _bar(visit: Visit, name: str, value: float, limit: float, *, is_bytes: bool) -> None:
    t = visit.t
    shown = (t.size(value), t.size(limit)) if is_bytes else (t.number(value), t.number(limit))
    with ui.element("div").classes("quota"):
        with ui.element("div").classes("spread"):
            ui.label(name)
            ui.label(t("usage.of", used=shown[0], limit=shown[1])).classes("quiet")
        share = min(1.0, value / limit) if limit else 0.0
        ui.linear_progress(share, show_value=False).props(
            f'color={"negative" if share >= 0.9 else "primary"} aria-label="{name}"'
        )


async def _audit(visit: Visit) -> None:
    t, account = visit.t, visit.account
    assert account is not None
    if not visit.may(rights.READ_AUDIT):
        return
    found = await visit.api.arm(
        "GET", "/tailorbird/v1/audit", scope="", params={"scope": account.id, "limit": _ENTRIES}
    )
    with card(t("usage.audit")):
        heading(t("usage.audit_lead"), 3).classes("quiet")
        names = ("time", "who", "action", "outcome", "detail")
        sheet = Sheet(t("usage.audit"), [Column(t(f"usage.audit_{name}")) for name in names])
        for row in found["value"]:
            action = row["action"].removeprefix("Microsoft.CognitiveServices/").removeprefix("accounts/")
            moment = row["time"][:19].replace("T", " ")
            sheet.texts(moment, row["principalName"] or "–", action, row["outcome"], row["detail"])
