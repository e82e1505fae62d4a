"""Fifth step: what was chosen, what it will take and cost, and the start; refusals stand beside what caused them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nicegui import ui

from tailorbird.studio.client import Refused
from tailorbird.studio.controls import heading, problem
from tailorbird.studio.pages.amounts import money
from tailorbird.studio.pages.create import draft as drafts
from tailorbird.studio.pages.create import prices
from tailorbird.studio.pages.create.data import PENDING
from tailorbird.studio.pages.create.draft import Draft
from tailorbird.studio.visit import TRAIN, Visit
from tailorbird.studio.words import Words

_ATTEMPTS = 3
_SOON_SECONDS, _TARIFF_SECONDS = 4, 300
_LOOK_SECONDS = 1.5
FIELDS = ("model", "training_file", "validation_file", "method", "hyperparameters", "suffix", "seed")


class ReviewStep:
    def __init__(self, visit: Visit, draft: Draft) -> None:
        self._visit = visit
        self._draft = draft
        self._names: dict[str, str] = {}
        self._beside: dict[str, ui.element] = {}
        self._starting = False

    async def show(self) -> None:
        t = self._visit.t
        files = await self._visit.api.every("/files", purpose="fine-tune")
        self._names = {row["id"]: row["filename"] for row in files}
        with ui.element("dl").classes("review"):
            for field in FIELDS:
                self._row(field)
        heading(t("create.estimate"), 3)
        self._estimate = ui.element("div").props("aria-live=polite").classes("stack")
        self._otherwise = ui.element("div")

    async def estimate(self) -> None:
        """After the page stands: counting takes a moment."""
        if (reason := self._visit.refusal(TRAIN)) is not None:
            self._estimate.clear()
            with self._estimate:
                ui.label(reason).classes("reason")
            return
        try:
            await self._wait_for_files()
            self._busy("create.counting")
            found = await self._ask()
            lines = await self._visit.api.fresh("/tariff", _TARIFF_SECONDS, plane="own")
        except Refused as error:
            self._estimate.clear()
            self._show_refusal(error)
            with self._estimate:
                ui.label(self._visit.t("create.no_estimate")).classes("quiet")
            return
        self._draft.pop("refused", None)
        self._estimate.clear()
        with self._estimate:
            _figures(self._visit.t, found)
            line = next((one for one in lines["data"] if one["id"] == found["model"]), None)
            ui.label(prices.hosting(self._visit.t, line)).classes("reason")

    async def start(self) -> str:
        """The job's id; empty when the service refused, which is then shown."""
        if self._starting:
            return ""
        self._starting = True
        self._clear()
        try:
            job = await self._visit.api.data("POST", "/fine_tuning/jobs", json=drafts.body(self._draft))
        except Refused as error:
            self._starting = False
            self._show_refusal(error)
            return ""
        return str(job["id"])

    # --- inside -------------------------------------------------------------------------------------------------------

    def _row(self, field: str) -> None:
        t = self._visit.t
        with ui.element("div").classes("review-row"):
            with ui.element("dt"):
                ui.label(t(f"create.{field}"))
            with ui.element("dd"):
                with ui.element("div"):
                    ui.label(said(t, self._draft, field, self._names))
                    self._beside[field] = ui.element("div")
                link = ui.link(t("create.change"), f"/create?step={drafts.step_of(field)}")
                link.props["aria-label"] = f"{t('create.change')}: {t(f'create.{field}')}"

    def _clear(self) -> None:
        for element in (*self._beside.values(), self._otherwise):
            element.clear()

    def _show_refusal(self, error: Refused) -> None:
        field = drafts.field_of(error.param)
        self._draft["refused"] = {"field": field, "message": error.message}
        beside = "hyperparameters" if field in drafts.HYPERPARAMETERS else field
        self._clear()
        with self._beside.get(beside, self._otherwise):
            problem(error)

    def _busy(self, key: str) -> None:
        self._estimate.clear()
        with self._estimate, ui.element("div").classes("row"):
            ui.spinner(size="20px").props('aria-hidden="true"')
            ui.label(self._visit.t(key)).classes("quiet")

    async def _wait_for_files(self) -> None:
        body = drafts.body(self._draft)
        for field in ("training_file", "validation_file"):
            if field not in body:
                continue
            self._busy("create.checking")
            while (await self._visit.api.fresh(f"/files/{body[field]}", _LOOK_SECONDS))["status"] in PENDING:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _ask(self) -> Mapping[str, Any]:
        """Where nothing was trained yet the service first measures its machine, for longer than an answer may take."""
        for left in reversed(range(_ATTEMPTS)):
            body = drafts.body(self._draft)
            asked = asyncio.ensure_future(self._visit.api.own("POST", "/fine_tuning/jobs/estimate", json=body))
            try:
                if not (await asyncio.wait({asked}, timeout=_SOON_SECONDS))[0]:
                    self._busy("create.measuring")
                return await asked
            except Refused as error:
                if error.status or not left:
                    raise
            finally:
                asked.cancel()
        raise AssertionError("the last attempt returns or raises")


def said(t: Words, draft: Mapping[str, Any], field: str, names: Mapping[str, str]) -> str:
    """A field in words."""
    body = drafts.body(draft)
    if field in ("training_file", "validation_file"):
        if field not in body:
            return t("create.none")
        return f"{names.get(body[field], '?')} ({body[field]})"
    if field == "method":
        return t(f"create.{drafts.method(draft)}")
    if field == "hyperparameters":
        options = body.get("hyperparameters") or body.get("method", {}).get("dpo", {}).get("hyperparameters") or {}
        return " · ".join(f"{t(f'create.{name}')}: {value}" for name, value in options.items()) or t("create.default")
    if field in ("suffix", "seed"):
        return str(body.get(field, t("create.none" if field == "suffix" else "create.drawn")))
    return str(body[field])


def _figures(t: Words, found: Mapping[str, Any]) -> None:
    price = found["price"]
    chosen = found["hyperparameters"]
    with ui.element("div").classes("grid"):
        _figure(t("create.tokens"), t.number(found["trained_tokens"]), tokens_said(t, found))
        _figure(t("create.time"), t.duration(found["training_seconds"]["likely"]), time_said(t, found))
        _figure(t("create.cost"), money(t, price["amount"], price["currency"]), cost_said(t, price))
    learning = t.number(chosen["learning_rate_multiplier"], 3).rstrip("0").rstrip(".,")
    ui.label(
        t(
            "create.will_use",
            epochs=chosen["n_epochs"],
            batch=chosen["batch_size"],
            rate=learning,
            steps=t.number(found["steps"]),
        )
    )
    ui.label(t(f"create.times_from_{found['times_from']}", runs=found["measured_runs"])).classes("reason")
    ui.label(t("create.cost_note")).classes("reason")


def _figure(label: str, value: str, note: str) -> None:
    with ui.element("div").classes("figure-box"):
        ui.label(label).classes("quiet")
        ui.label(value).classes("figure")
        ui.label(note).classes("reason")


def tokens_said(t: Words, found: Mapping[str, Any]) -> str:
    key = "create.tokens_exact" if found["tokens_are_exact"] else "create.tokens_about"
    return t(key, rows=t.number(found["examples"]), tokens=t.number(found["epoch_tokens"]))


def time_said(t: Words, found: Mapping[str, Any]) -> str:
    seconds, total = found["training_seconds"], found["total_seconds"]
    return t(
        "create.time_note",
        low=t.duration(seconds["low"]),
        high=t.duration(seconds["high"]),
        total=t.duration(total["likely"]),
    )


def cost_said(t: Words, price: Mapping[str, Any]) -> str:
    currency = price["currency"]
    said = prices.training(t, price["meter"], price["unit_price"], currency)
    if price["low"] == price["high"]:
        return said
    low, high = (money(t, price[end], currency) for end in ("low", "high"))
    return f"{t('create.between', low=low, high=high)} {said}"
