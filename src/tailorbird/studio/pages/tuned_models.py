"""The account's fine-tuned models: where each comes from, where it is deployed, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio import job_lists
from tailorbird.studio.controls import attempt, button, confirm, copy_button, empty
from tailorbird.studio.job_lists import Row
from tailorbird.studio.sheets import Column, Sheet, reasons
from tailorbird.studio.visit import DELETE_MODEL, DEPLOY, TRAIN, Visit


async def show(visit: Visit) -> None:
    await _Models(visit).show()


class _Models:
    def __init__(self, visit: Visit) -> None:
        self._visit = visit

    async def show(self) -> None:
        self._place = ui.element("div")
        await self._draw()

    async def _draw(self) -> None:
        api, t = self._visit.api, self._visit.t
        models = job_lists.tuned((await api.fresh("/models", 1.0))["data"])
        deployed = job_lists.deployed((await api.fresh("/deployments", 1.0, plane="own"))["data"])
        jobs = {job["id"]: job for job in await job_lists.all_jobs(api, 1.0)}
        self._place.clear()
        with self._place:
            if not models:
                empty(t("jobs.no_models"))
                return
            names = ("jobs.model_name", "jobs.from_job", "jobs.deployed", "jobs.created", "jobs.actions")
            sheet = Sheet(t("jobs.tab_models"), [Column(t(name)) for name in names])
            for model in models:
                with sheet.row():
                    self._row(sheet, model, deployed.get(str(model["id"]), []), jobs.get(model["fine_tune"]))
            reasons(self._visit, DEPLOY, TRAIN, DELETE_MODEL)

    def _row(self, sheet: Sheet, model: Row, deployments: Sequence[str], job: Row | None) -> None:
        visit, t, name = self._visit, self._visit.t, str(model["id"])
        with sheet.cell(0, heading=True), ui.element("div").classes("wide-cell"):
            with ui.element("div").classes("row tight"):
                ui.label(name).classes("mono")
                copy_button(visit, name)
            ui.label(t("jobs.based_on", base=model.get("model") or model["base_model"])).classes("sub")
        with sheet.cell(1):
            if job is None:
                ui.label(t("jobs.job_deleted")).classes("quiet")
            else:
                ui.link(job_lists.title_of(job), f"/jobs/{job['id']}")
        with sheet.cell(2), ui.element("div"):
            for deployment in deployments:
                ui.link(deployment, f"/deployments/{quote(deployment, safe='')}")
            if not deployments:
                ui.label(t("jobs.not_deployed")).classes("quiet")
        with sheet.cell(3):
            ui.label(t.moment(model["created_at"]))
        with sheet.cell(4), ui.element("div").classes("row wide"):
            if not deployments:
                target = f"/deployments?model={quote(name, safe='')}"
                button(visit, t("jobs.deploy"), lambda: ui.navigate.to(target), action=DEPLOY)
            again = f"/create?model={quote(name, safe='')}"
            button(visit, t("jobs.tune_again"), lambda: ui.navigate.to(again), action=TRAIN)
            button(visit, t("shell.delete"), lambda: self._delete(name), action=DELETE_MODEL, kind="danger")

    async def _delete(self, name: str) -> None:
        t = self._visit.t
        if not await confirm(self._visit, t("jobs.delete_model", name=name), t("shell.delete")):
            return
        done = await attempt(self._visit.api.data("DELETE", f"/models/{quote(name, safe=':')}"))
        if done is not None:
            ui.notify(t("jobs.model_deleted", name=name))
            await self._draw()
