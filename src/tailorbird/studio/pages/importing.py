"""The form that has the service fetch a file from a URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nicegui import ui

from tailorbird.studio.client import Refused
from tailorbird.studio.controls import button, problem
from tailorbird.studio.pages.file_rows import name_in
from tailorbird.studio.visit import IMPORT, Visit


class ImportForm:
    """`on_begun` is awaited once the service has taken the address."""

    def __init__(self, visit: Visit, on_begun: Callable[[], Awaitable[None]]) -> None:
        self._visit = visit
        self._on_begun = on_begun
        t = visit.t
        with ui.element("form").classes("stack import-form").props("novalidate") as form:
            self._url = ui.input(t("files.url")).props("outlined hide-bottom-space type=url autocomplete=off")
            self._url.props["hint"] = t("files.url_hint")
            self._name = ui.input(t("files.name")).props("outlined hide-bottom-space autocomplete=off")
            self._place = ui.element("div")
            self._send = button(visit, t("files.import"), self._import, action=IMPORT, icon="cloud_download")
        # The browser's own way to send a form, Enter in a field included, would leave the page.
        form.on("submit", js_handler="(e) => e.preventDefault()")
        for field in (self._url, self._name):
            field.on("keydown.enter", self._import)
        self._url.on("blur", self._suggest)

    def _suggest(self) -> None:
        if self._url.value and not self._name.value:
            self._name.value = name_in(str(self._url.value).strip())

    async def _import(self) -> None:
        t, url = self._visit.t, str(self._url.value or "").strip()
        if not self._visit.may(IMPORT):
            return
        self._suggest()
        name = str(self._name.value or "").strip()
        self._place.clear()
        self._url.error = None if url else t("files.fill_in")
        self._name.error = None if name or not url else t("files.fill_in")
        if not url or not name:
            return
        self._send.props("loading")
        body = {"filename": name, "purpose": "fine-tune", "content_url": url}
        try:
            await self._visit.api.data("POST", "/files/import", json=body)
        except Refused as error:
            self._show(error)
        else:
            # The address may hold a signature; nothing of it is kept.
            self._url.value = self._name.value = ""
            await self._on_begun()
        finally:
            self._send.props(remove="loading")

    def _show(self, error: Refused) -> None:
        field = {"content_url": self._url, "filename": self._name}.get(error.param)
        if field is not None:
            field.error = error.message
            return
        with self._place:
            problem(error)
