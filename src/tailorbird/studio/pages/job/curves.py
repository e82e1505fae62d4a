"""The three charts of a job, their numbers as a table, and a word when training and validation part."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from tailorbird.studio.charts import Line, Plot, value_text
from tailorbird.studio.controls import card, empty
from tailorbird.studio.curves import (
    FULL_ACCURACY,
    FULL_LOSS,
    MEAN_TRAIN_LOSS,
    TRAIN_ACCURACY,
    TRAIN_LOSS,
    VALID_ACCURACY,
    VALID_LOSS,
    Point,
)
from tailorbird.studio.following import Following, News
from tailorbird.studio.sheets import Column, Sheet
from tailorbird.studio.visit import Visit

_ROWS = 200


class Charts:
    def __init__(self, visit: Visit, followed: Following) -> None:
        self._visit = visit
        self._followed = followed
        self._plots: list[Plot] = []
        self._validated = bool(followed.job.get("validation_file"))
        t = visit.t
        self._lines = [
            Line(TRAIN_LOSS, t("job.train_loss")),
            Line(VALID_LOSS, t("job.valid_loss"), validation=True),
            Line(TRAIN_ACCURACY, t("job.train_accuracy"), share=True),
            Line(VALID_ACCURACY, t("job.valid_accuracy"), validation=True, share=True),
            Line(FULL_LOSS, t("job.full_loss"), validation=True),
            Line(FULL_ACCURACY, t("job.full_accuracy"), validation=True, share=True),
        ]
        with card(t("job.curves")):
            self._hint = ui.element("div").classes("maybe")
            self._place = ui.element("div")
            self._table = ui.element("div").classes("maybe")
        self._draw()
        self._draw_hint()

    def hear(self, news: News) -> None:
        if not self._plots and (news.points or news.job):
            self._draw()
        elif news.points:
            for plot in self._plots:
                plot.add(news.points, self._followed.curves)
        if any(FULL_LOSS in point for point in news.points):
            self._draw_hint()

    def _draw(self) -> None:
        t, curves = self._visit.t, self._followed.curves
        self._place.clear()
        with self._place:
            if not curves.points:
                empty(t("job.no_curves_ended") if self._followed.ended else t("job.no_curves"))
                return
            with ui.element("div").classes("plots"):
                self._plots = [
                    Plot(self._visit, t("job.loss"), self._both(0), curves),
                    Plot(self._visit, t("job.accuracy"), self._both(2), curves),
                ]
                if self._validated:
                    lines = [
                        Line(MEAN_TRAIN_LOSS, t("job.mean_train_loss"), sparse=True),
                        Line(FULL_LOSS, t("job.full_loss"), validation=True, sparse=True),
                        Line(FULL_ACCURACY, t("job.full_accuracy"), validation=True, share=True, sparse=True),
                    ]
                    self._plots.append(Plot(self._visit, t("job.full"), lines, curves))
            if not self._validated:
                ui.label(t("job.no_validation")).classes("quiet")
            self._toggle = ui.button(t("job.as_table"), icon="table_rows", on_click=self._show_table)
            self._toggle.props('flat no-caps dense aria-expanded="false"')

    def _both(self, first: int) -> list[Line]:
        return self._lines[first : first + 2] if self._validated else [self._lines[first]]

    def _draw_hint(self) -> None:
        t, found = self._visit.t, self._followed.curves.overfitting
        self._hint.clear()
        if found is None:
            return
        with self._hint, ui.element("div").classes("warning").props("role=status"):
            text = t(
                "job.overfitting",
                best=t.number(found.best, 3),
                step=t.number(found.best_step),
                last=t.number(found.last, 3),
            )
            ui.label(text)

    # --- the same in numbers ------------------------------------------------------------------------------------------

    def _show_table(self) -> None:
        t = self._visit.t
        shown = bool(self._table.default_slot.children)
        self._table.clear()
        self._toggle.props(f'aria-expanded="{str(not shown).lower()}"')
        self._toggle.set_text(t("job.as_table") if shown else t("job.hide_table"))
        if not shown:
            with self._table:
                self._numbers()

    def _numbers(self) -> None:
        t, points = self._visit.t, self._followed.curves.points
        lines = [line for line in self._lines if any(line.key in point for point in points)]
        rows = rows_of(points)
        if len(rows) < len(points):
            ui.label(t("job.some_rows", shown=t.number(len(rows)), all=t.number(len(points)))).classes("sub")
        columns = [Column(t("job.step"), number=True), *(Column(line.name, number=True) for line in lines)]
        sheet = Sheet(t("job.curves"), columns, classes="dense")
        for point in rows:
            with sheet.row():
                with sheet.cell(0, heading=True):
                    ui.label(t.number(point["step"]))
                for place, line in enumerate(lines, start=1):
                    with sheet.cell(place):
                        ui.label(value_text(self._visit, line, point[line.key]) if line.key in point else "–")


def rows_of(points: Sequence[Point]) -> Sequence[Point]:
    """Newest first; of many the full validations, the ends and as many others as a table can hold."""
    if len(points) <= _ROWS:
        return points[::-1]
    every = -(-len(points) // _ROWS)
    last = len(points) - 1
    kept = [one for place, one in enumerate(points) if place % every == 0 or place == last or FULL_LOSS in one]
    return kept[::-1]
