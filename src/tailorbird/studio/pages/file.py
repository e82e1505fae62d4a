"""One file: its state, what is wrong with it line by line, its figures, its examples as conversations, who used it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio.client import Refused
from tailorbird.studio.controls import attempt, button, card, copy_button, empty, problem, status, title
from tailorbird.studio.pages.deleting import ask_and_delete
from tailorbird.studio.pages.examples import Examples, figures
from tailorbird.studio.pages.file_rows import (
    TRAINING,
    UNDER_WAY,
    File,
    Use,
    can_train,
    kind_of,
    table_in,
    uses_of,
)
from tailorbird.studio.pages.problems import problem_list
from tailorbird.studio.pages.saving import download_link
from tailorbird.studio.visit import DELETE_FILE, TRAIN, Visit

_LOOK_SECONDS = 1.5
_BEGINNING, _ROWS = 16_384, 20


async def page(visit: Visit, file_id: str) -> None:
    t, path = visit.t, f"/files/{quote(file_id, safe='')}"
    try:
        file = await visit.api.fresh(path, 1)
    except Refused as error:
        if error.status != 404:
            raise
        title(visit, t("file.gone"))
        with empty(error.message):
            ui.link(t("file.back"), "/files")
        return
    ui.link(t("file.back"), "/files").classes("back")
    title(visit, file["filename"])
    head, body = ui.element("section").classes("card"), ui.element("div").classes("page-body")
    _head(visit, head, file)
    if file["status"] not in UNDER_WAY:
        await _body(visit, body, file)
        return
    with body:
        _waiting(visit)
    known = file

    async def look() -> None:
        nonlocal known
        # What cannot be asked now is asked again in a moment.
        with suppress(Refused):
            now = await visit.api.fresh(path, _LOOK_SECONDS / 2)
            if now == known:
                return
            known = now
            _head(visit, head, now)
            if now["status"] not in UNDER_WAY:
                timer.deactivate()
                body.clear()
                await _body(visit, body, now)

    timer = ui.timer(_LOOK_SECONDS, look, immediate=False)


def _head(visit: Visit, place: ui.element, file: File) -> None:
    t = visit.t
    place.clear()
    with place:
        with ui.element("dl").classes("file-facts"):
            with _fact(t("files.status")):
                status(file["status"])
            with _fact(t("files.purpose")):
                ui.label(t(f"files.purpose_{kind_of(file)}") if kind_of(file) != "other" else file["purpose"])
            with _fact(t("files.size")):
                arrives = not file["bytes"] and file["status"] in UNDER_WAY
                ui.label(t("files.arriving") if arrives else t.size(file["bytes"]))
            with _fact(t("files.added")):
                ui.label(t.moment(file["created_at"]))
            if file.get("expires_at"):
                with _fact(t("file.expires")):
                    ui.label(t.moment(file["expires_at"]))
            with _fact(t("file.id")), ui.element("span").classes("row id"):
                ui.label(file["id"]).classes("mono")
                copy_button(visit, file["id"])
        with ui.element("div").classes("row"):
            if can_train(file):
                create = f"/create?training_file={file['id']}"
                button(
                    visit, t("file.use"), lambda: ui.navigate.to(create), action=TRAIN, icon="auto_fix_high",
                    kind="primary",
                )  # fmt: skip
            with download_link(visit, file).classes("link-button"):
                ui.icon("download").props('aria-hidden="true"')
                ui.label(t("shell.download"))

            async def delete() -> None:
                if await ask_and_delete(visit, file):
                    ui.notify(t("file.deleted", name=file["filename"]), type="positive")
                    ui.navigate.to("/files")

            button(visit, t("shell.delete"), delete, action=DELETE_FILE, icon="delete", kind="danger")


def _fact(name: str) -> ui.element:
    with ui.element("div").classes("file-fact"):
        with ui.element("dt"):
            ui.label(name)
        return ui.element("dd")


def _waiting(visit: Visit) -> None:
    with card(), ui.element("div").classes("row").props("role=status"):
        ui.spinner(size="24px")
        ui.label(visit.t("file.checking"))


async def _body(visit: Visit, place: ui.element, file: File) -> None:
    with place:
        if file["status"] == "error":
            await problem_list(visit, file)
        if file["purpose"] != TRAINING:
            await _beginning(visit, file)
        elif file["bytes"]:
            with ui.element("div") as examples:
                await _examples(visit, examples, file)
        await _uses(visit, file)


async def _examples(visit: Visit, place: ui.element, file: File) -> None:
    """Figures and conversations, as the model that was chosen reads them; they begin again when another is."""
    t, kept = visit.t, visit.kept("file")
    model = str(kept.get("model", ""))
    models = await _models(visit)
    if model not in models:
        model = ""

    async def choose(event: Any) -> None:
        kept["model"] = event.value
        place.clear()
        with place:
            await _examples(visit, place, file)

    with place, ui.element("div").classes("stack"):
        with card(t("file.figures")):
            if len(models) > 2:
                select = ui.select(models, value=model, label=t("file.counted_for"), on_change=choose)
                select.props("outlined dense options-dense").classes("counted-for")
            await figures(visit, file["id"], model)
        with card(t("file.examples")):
            ui.label(t("file.examples_lead")).classes("quiet")
            await Examples(visit, file["id"], model).more()


async def _models(visit: Visit) -> dict[str, str]:
    """One name for each base whose template and tokenizer can read examples; empty is the one that fits first."""
    rows = (await visit.api.fresh("/models", 60))["data"]
    names: dict[str, str] = {"": visit.t("file.model_fitting")}
    bases: set[str] = set()
    for row in rows:
        base = str(row.get("base_model") or "")
        if row["capabilities"]["fine_tune"] and not row.get("fine_tune") and base not in bases:
            bases.add(base)
            names[str(row["id"])] = f"{row['id']} ({base})"
    return names


async def _beginning(visit: Visit, file: File) -> None:
    """Results, findings and whatever else is text: what it begins with."""
    t = visit.t
    if not file["bytes"]:
        return
    with card(t("file.beginning")) as place:
        try:
            headers = {"range": f"bytes=0-{_BEGINNING - 1}"}
            async with visit.api.stream("GET", f"/files/{file['id']}/content", headers=headers) as answer:
                text = (await answer.aread()).decode("utf-8-sig", errors="replace")
        except Refused as error:
            with place:
                problem(error)
            return
        if str(file["filename"]).endswith(".csv"):
            _csv(visit, text)
        else:
            with ui.element("pre").classes("snippet").props(f'tabindex=0 aria-label="{t("file.beginning")}"'):
                ui.label(text).classes("mono")


def _csv(visit: Visit, text: str) -> None:
    """A region of its own that scrolls sideways, by keyboard too."""
    around = ui.element("div").classes("scroll-x").props("tabindex=0 role=region")
    around.props["aria-label"] = visit.t("file.beginning")
    with around, ui.element("table").classes("values"):
        for place, row in enumerate(table_in(text, _ROWS)):
            with ui.element("tr"):
                for value in row:
                    with ui.element("th" if place == 0 else "td"):
                        ui.label(value).classes("inline")


async def _uses(visit: Visit, file: File) -> None:
    t = visit.t
    with card(t("file.used")):
        jobs = await attempt(visit.api.every("/fine_tuning/jobs"), ui.element("div"))
        if jobs is None:
            return
        uses: list[Use] = uses_of(jobs, str(file["id"]))
        if not uses:
            ui.label(t("file.unused")).classes("quiet")
            return
        with ui.element("ul").classes("uses"):
            for use in uses:
                with ui.element("li").classes("row"):
                    ui.label(t(f"file.use_{use.part}")).classes("quiet")
                    ui.link(use.model, f"/jobs/{use.job_id}")
                    status(use.status)
