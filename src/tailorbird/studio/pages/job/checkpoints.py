"""A job's checkpoints with their numbers; each can be deployed, or trained further, once it may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio.controls import button, card, copy_button, empty
from tailorbird.studio.curves import FULL_ACCURACY, FULL_LOSS, TRAIN_LOSS
from tailorbird.studio.following import Following, News
from tailorbird.studio.sheets import Column, Sheet, reasons
from tailorbird.studio.visit import DEPLOY, TRAIN, Visit
from tailorbird.studio.words import Words

_FIRST = 5


class Checkpoints:
    def __init__(self, visit: Visit, followed: Following) -> None:
        self._visit = visit
        self._followed = followed
        self._all = False
        with card(visit.t("job.checkpoints")):
            self._place = ui.element("div")
        self._draw()

    def hear(self, news: News) -> None:
        if news.checkpoints or news.job:
            self._draw()

    def _draw(self) -> None:
        t, followed = self._visit.t, self._followed
        self._place.clear()
        with self._place:
            if not followed.checkpoints:
                empty(t("job.no_checkpoints_ended") if followed.ended else t("job.no_checkpoints"))
                return
            names = ("job.train_loss", "job.full_loss", "job.full_accuracy")
            columns = [Column(t("job.checkpoint")), *(Column(t(name), number=True) for name in names)]
            columns.append(Column(t("job.actions")))
            sheet = Sheet(t("job.checkpoints"), columns)
            shown = followed.checkpoints if self._all else followed.checkpoints[:_FIRST]
            for checkpoint in shown:
                with sheet.row():
                    self._row(sheet, checkpoint)
            reasons(self._visit, DEPLOY, TRAIN)
            if len(shown) < len(followed.checkpoints):
                count = t.number(len(followed.checkpoints))
                ui.button(t("job.all_checkpoints", count=count), on_click=self._show_all).props("flat no-caps")
            if not followed.ended:
                ui.label(t("job.checkpoints_later")).classes("sub")

    def _show_all(self) -> None:
        self._all = True
        self._draw()

    def _row(self, sheet: Sheet, checkpoint: Mapping[str, Any]) -> None:
        visit, t = self._visit, self._visit.t
        name = str(checkpoint["fine_tuned_model_checkpoint"])
        with sheet.cell(0, heading=True), ui.element("div").classes("wide-cell"):
            step = t.number(checkpoint["step_number"])
            ui.label(t("job.final_step" if checkpoint["final"] else "job.of_step", step=step)).classes("strong")
            with ui.element("div").classes("row tight"):
                ui.label(name).classes("sub")
                copy_button(visit, name)
        for place, text in enumerate(numbers(t, checkpoint["metrics"]), start=1):
            with sheet.cell(place):
                ui.label(text)
        with sheet.cell(4), ui.element("div").classes("row wide"):
            if not checkpoint["deployable"]:
                ui.label(t("job.not_deployable")).classes("sub")
                return
            where = quote(name, safe="")
            deploy, again = f"/deployments?model={where}", f"/create?model={where}"
            button(visit, t("job.deploy"), lambda: ui.navigate.to(deploy), action=DEPLOY)
            button(visit, t("jobs.tune_again"), lambda: ui.navigate.to(again), action=TRAIN)


def numbers(t: Words, metrics: Mapping[str, float]) -> list[str]:
    def shown(name: str, *, share: bool = False) -> str:
        if name not in metrics:
            return "–"
        return f"{t.number(100 * metrics[name], 1)} %" if share else t.number(metrics[name], 3)

    return [shown(TRAIN_LOSS), shown(FULL_LOSS), shown(FULL_ACCURACY, share=True)]
