"""The facts of a job: method and hyperparameters, files to open and download, when, for how much, its lineage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from nicegui import ui

from tailorbird.studio.controls import card, heading
from tailorbird.studio.following import Following, News
from tailorbird.studio.pages.job.course import cost
from tailorbird.studio.pages.job.surroundings import Surroundings
from tailorbird.studio.pages.saving import download_link
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_KNOWN = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta", "l2_multiplier", "early_stop_patience")
_AUTO = (-1, "auto", None)


class Facts:
    def __init__(self, visit: Visit, followed: Following, around: Surroundings) -> None:
        self._visit = visit
        self._followed = followed
        self._around = around
        with card(visit.t("job.facts")):
            self._place = ui.element("div").classes("stack")
        self._draw()

    def hear(self, news: News) -> None:
        # At the end there are new files: `around` comes with their names.
        if news.job and not self._followed.ended:
            self._draw()

    def around(self, around: Surroundings) -> None:
        self._around = around
        self._draw()

    def _draw(self) -> None:
        t, job = self._visit.t, self._followed.job
        self._place.clear()
        with self._place:
            with ui.element("dl").classes("keyfacts"):
                for name, text in plain_facts(t, job, self._followed.progress):
                    _fact(t(name), lambda text=text: ui.label(text))
                for key, value in (job.get("metadata") or {}).items():
                    _fact(str(key), lambda value=value: ui.label(str(value)))
            heading(t("job.hyperparameters"), 3)
            with ui.element("dl").classes("keyfacts"):
                for name, text in hyperparameters(t, job):
                    _fact(t(name), lambda text=text: ui.label(text))
            heading(t("job.files"), 3)
            with ui.element("dl").classes("keyfacts"):
                self._files()
            if self._around.lineage["continued_from"] or self._around.lineage["continued_by"]:
                heading(t("job.lineage"), 3)
                with ui.element("dl").classes("keyfacts"):
                    self._lineage()

    def _files(self) -> None:
        t, job = self._visit.t, self._followed.job
        for name in ("training_file", "validation_file"):
            if job.get(name):
                _fact(t(f"job.file_{name}"), lambda name=name: self._file(str(job[name])))
        for file_id in job.get("result_files") or ():
            _fact(t("job.results"), lambda file_id=file_id: self._file(str(file_id)))

    def _file(self, file_id: str) -> None:
        t, name = self._visit.t, self._around.names.get(file_id)
        if name is None:
            ui.label(file_id).classes("mono")
            ui.label(t("job.file_gone")).classes("sub")
            return
        with ui.element("div").classes("row tight"):
            ui.link(name, f"/files/{quote(file_id, safe='')}")
            with download_link(self._visit, {"id": file_id, "filename": name}) as link:
                ui.icon("download").props('aria-hidden="true"')
            link.props(f'aria-label="{t("job.download", name=name)}"').classes("icon-link")

    def _lineage(self) -> None:
        t, lineage = self._visit.t, self._around.lineage
        source = lineage["continued_from"]
        if source:

            def link_to_source() -> None:
                ui.link(source["model"], f"/jobs/{source['job']}").classes("mono")
                ui.label(t("job.at_step", step=t.number(source["step_number"]))).classes("sub")

            _fact(t("job.continued_from"), link_to_source)
        for one in lineage["continued_by"]:

            def link_to_next(one: Mapping[str, Any] = one) -> None:
                ui.link(one["fine_tuned_model"] or one["job"], f"/jobs/{one['job']}").classes("mono")
                ui.label(one["status"]).classes("sub")

            _fact(t("job.continued_by"), link_to_next)


def _fact(name: str, show: Callable[[], Any]) -> None:
    with ui.element("div"):
        with ui.element("dt"):
            ui.label(name).classes("inline")
        with ui.element("dd"):
            show()


def plain_facts(t: Words, job: Mapping[str, Any], progress: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs of a key of the catalogue and a text; only what is known."""
    told = [("job.base", str(job["model"])), ("job.method", t(f"job.method_{method_of(job)}"))]
    told += [("job.suffix", str(job["suffix"]))] if job.get("suffix") else []
    told.append(("job.seed", str(job["seed"])))
    told += [("job.model", str(job["fine_tuned_model"]))] if job.get("fine_tuned_model") else []
    if job.get("trainingType"):
        told.append(("job.training_type", str(job["trainingType"])))
    told.append(("job.created", t.moment(job["created_at"])))
    for name in ("started_at", "finished_at"):
        if progress.get(name):
            told.append((f"job.moment_{name}", t.moment(progress[name])))
    if progress.get("examples"):
        told.append(("job.examples", t.number(progress["examples"])))
    if job.get("trained_tokens"):
        told.append(("job.trained_tokens", t.number(job["trained_tokens"])))
    if progress.get("cost"):
        told.append(("job.cost", cost(t, progress["cost"])))
    return told


def method_of(job: Mapping[str, Any]) -> str:
    method = job.get("method") or {}
    return "dpo" if method.get("type") == "dpo" else "supervised"


def hyperparameters(t: Words, job: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those of the method where the job names one, which has more of them."""
    method: Mapping[str, Any] = (job.get("method") or {}).get(method_of(job), {})
    values = {**job["hyperparameters"], **method.get("hyperparameters", {})}
    return [
        (f"job.param_{name}", t("job.auto") if values[name] in _AUTO else f"{values[name]:g}")
        for name in _KNOWN
        if name in values
    ]
