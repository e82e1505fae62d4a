"""The account's deployments, live; and the form that makes one."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.client import Refused
from tailorbird.studio.pages.amounts import money
from tailorbird.studio.pages.deployment_facts import Facts, is_near, load, short, time_left
from tailorbird.studio.pages.deployment_form import DeploymentForm
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import DEPLOY, Visit
from tailorbird.studio.words import Words

_BUSY_SECONDS, _CALM_SECONDS = 1.5, 10.0


async def page(visit: Visit, model: str = "") -> None:
    """`?model=` opens the form with that model or checkpoint chosen."""
    t = visit.t
    controls.title(visit, t("deployments.title"), t("deployments.lead"))
    with ui.element("div").classes("row") as opener:
        controls.button(visit, t("deployments.create"), lambda: form.open(), action=DEPLOY, icon="add", kind="primary")
    form = DeploymentForm(visit, ui.element("div"), opener)
    listing = Listing(visit)
    await listing.refresh()
    timer = ui.timer(_BUSY_SECONDS, listing.refresh, immediate=False)
    listing.on_pace = lambda seconds: setattr(timer, "interval", seconds)
    if visit.may(DEPLOY) and (model or form.was_open):
        await form.open(model)


class Listing:
    """The table; rebuilt when something in it has changed, and only then."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._place = ui.element("div")
        self._shown: object = None
        self.on_pace: Callable[[float], None] = lambda _: None

    async def refresh(self) -> None:
        try:
            rows = await load(self._visit)
        except Refused as error:
            if self._shown is None:
                raise
            told = error
            self._show(("refused", error.message), lambda: controls.problem(told))
            return
        now = time.time()
        self.on_pace(_BUSY_SECONDS if any(row.is_moving for row in rows) else _CALM_SECONDS)
        t = self._visit.t
        told = [(row, used_text(t, row, now), time_left(t, row, now)) for row in rows]
        self._show(told, lambda: self._table(rows, now))

    def _show(self, state: object, build: Callable[[], object]) -> None:
        if state == self._shown:
            return
        self._shown = state
        self._place.clear()
        with self._place:
            build()

    def _table(self, rows: list[Facts], now: float) -> None:
        t = self._visit.t
        if not rows:
            controls.empty(t("deployments.empty"))
            return
        names = ("name", "model", "state", "rate", "last_used", "ends", "actions")
        columns = [Column(t(f"deployments.{name}")) for name in names]
        sheet = Sheet(t("deployments.title"), columns, classes="deployments")
        for row in rows:
            with sheet.row():
                self._cells(sheet, row, now)

    def _cells(self, sheet: Sheet, row: Facts, now: float) -> None:
        t = self._visit.t
        with sheet.cell(0, heading=True):
            ui.link(row.name, f"/deployments/{quote(row.name)}")
        with sheet.cell(1), ui.element("div"):
            ui.label(short(row.model)).classes("mono").props(f'title="{row.model}"')
        with sheet.cell(2), ui.element("div"):
            controls.status(row.shown_state)
            if row.error:
                ui.label(row.error).classes("sub")
        with sheet.cell(3), ui.element("div"):
            if row.tokens_per_minute is None or row.requests_per_minute is None:
                ui.label(t("deployments.no_limit"))
            else:
                ui.label(t("deployments.token_rate", count=t.number(row.tokens_per_minute))).classes("nowrap")
                ui.label(t("deployments.request_rate", count=t.number(row.requests_per_minute))).classes("sub nowrap")
            ui.label(f"{row.sku} · {row.capacity}").classes("sub nowrap")
        with sheet.cell(4), ui.element("div"):
            ui.label(used_text(t, row, now)).classes("nowrap")
        with sheet.cell(5), ui.element("div"):
            ui.label(time_left(t, row, now) or t("deployments.never")).classes("soon" if is_near(row, now) else "")
            if row.hour:
                ui.label(t("deployments.per_hour", price=money(t, row.hour, row.currency))).classes("sub")
        with sheet.cell(6), ui.element("div"):
            if row.is_ready:
                link = ui.link(t("deployments.try"), f"/playground?deployment={quote(row.name)}")
                link.props(f'aria-label="{t("deployments.try_name", name=row.name)}"')


def rate_text(t: Words, row: Facts) -> str:
    """What the capacity allows in a minute."""
    if row.tokens_per_minute is None or row.requests_per_minute is None:
        return t("deployments.no_limit")
    return t("deployments.rates", tokens=t.number(row.tokens_per_minute), requests=t.number(row.requests_per_minute))


def used_text(t: Words, row: Facts, now: float) -> str:
    """To the minute: finer would change the page all the time."""
    if row.last_used_at is None:
        return t("deployments.not_used")
    minutes = int(max(0.0, now - row.last_used_at) // 60)
    if minutes < 2:
        return t("deployments.just_now")
    if minutes < 60:
        return t("deployments.minutes_ago", count=minutes)
    if minutes < 24 * 60:
        return t("deployments.hours_ago", count=minutes // 60)
    return t.moment(row.last_used_at)
