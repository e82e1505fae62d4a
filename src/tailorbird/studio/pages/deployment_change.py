"""Changing a deployment's capacity, with what the new one means before it is saved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages.deployment_facts import Facts
from tailorbird.studio.visit import DEPLOY, Visit


class CapacityForm:
    def __init__(self, visit: Visit, row: Facts, changed: Callable[[], Awaitable[None]]) -> None:
        self._visit = visit
        self._row = row
        self._changed = changed
        t = visit.t
        with ui.element("div").classes("deploy-capacity"):
            self.capacity = ui.number(
                t("deployments.capacity"), value=row.capacity, min=1, step=1, precision=0, on_change=self._tell
            ).props("outlined dense hide-bottom-space")
            self.meaning = ui.label().classes("reason")
            controls.button(visit, t("deployments.change"), self._save, action=DEPLOY)
        self.fault = ui.element("div")
        if not visit.may(DEPLOY):
            self.capacity.disable()
        self._tell()

    def _tell(self) -> None:
        """A capacity's rates follow from the present one's: the service's own ratio, whatever it is."""
        row, t = self._row, self._visit.t
        wanted = int(self.capacity.value or 0)
        if row.tokens_per_minute is None or row.requests_per_minute is None or wanted < 1:
            self.meaning.text = ""
        else:
            tokens, requests = (
                rate * wanted // row.capacity for rate in (row.tokens_per_minute, row.requests_per_minute)
            )
            self.meaning.text = t("deployments.rates", tokens=t.number(tokens), requests=t.number(requests))

    async def _save(self) -> None:
        # A refusal stands below the line of the field: the service's sentences are long, the field is narrow.
        path = f"/deployments/{quote(self._row.name, safe='')}"
        body = {"sku": {"name": self._row.sku, "capacity": int(self.capacity.value or 0)}}
        if await controls.attempt(self._visit.api.arm("PATCH", path, json=body), self.fault) is not None:
            await self._changed()
