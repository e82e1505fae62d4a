"""A job's events, newest first; older ones when asked for."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from tailorbird.studio.controls import attempt, card
from tailorbird.studio.following import EVENTS_PAGE, Following, News
from tailorbird.studio.visit import Visit

_FIRST = 20
_KEPT = 500
"""A page that stays open for days does not grow for ever."""
_LOOKS = {"error": "error", "warning": "warn", "warn": "warn"}


class Feed:
    def __init__(self, visit: Visit, followed: Following) -> None:
        self._visit = visit
        self._followed = followed
        self._last: str | None = None
        with card(visit.t("job.events")):
            self._list = ui.element("ol").classes("feed").props("reversed")
            self._more = ui.button(visit.t("job.older"), on_click=self._older).props("flat no-caps")
        first = followed.events[:_FIRST]
        self._append(first)
        self._more.set_visibility(followed.older or len(followed.events) > len(first))

    def hear(self, news: News) -> None:
        if not news.events:
            return
        with self._list:
            # The oldest of the new ones first: each is put on top of the one before.
            for event in reversed(news.events):
                self._line(event).move(target_index=0)
        rows = self._list.default_slot.children
        for row in list(rows[_KEPT:]):
            row.delete()

    def _append(self, events: list[dict[str, Any]]) -> None:
        with self._list:
            for event in events:
                self._line(event)
        if events:
            self._last = str(events[-1]["id"])

    def _line(self, event: dict[str, Any]) -> ui.element:
        with ui.element("li").classes(_LOOKS.get(event["level"], "")) as line:
            with ui.element("time"):
                ui.label(_moment(self._visit, event["created_at"])).classes("quiet inline")
            ui.label(event["message"])
        return line

    async def _older(self) -> None:
        where = f"/fine_tuning/jobs/{self._followed.id}/events"
        params = {"limit": EVENTS_PAGE} | ({"after": self._last} if self._last else {})
        page = await attempt(self._visit.api.data("GET", where, params=params))
        if page is not None:
            self._append(page["data"])
            self._more.set_visibility(bool(page["has_more"]))


def _moment(visit: Visit, seconds: int) -> str:
    """With the seconds, which tell steps apart."""
    return visit.t.moment(seconds).replace(" UTC", f":{seconds % 60:02} UTC")
