"""Second and third step: training and validation data, from the account's files, this computer or a URL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from tailorbird.studio import sample
from tailorbird.studio.choices import Choice, radio_cards
from tailorbird.studio.client import Refused
from tailorbird.studio.controls import attempt, button, empty, problem, status
from tailorbird.studio.dropping import DropZone, Uploaded
from tailorbird.studio.pages.create.draft import Draft
from tailorbird.studio.visit import IMPORT, UPLOAD, Visit
from tailorbird.studio.words import Words

PENDING = frozenset({"pending", "running", "uploaded"})
_MANY = 6
"""More files than this can be searched."""
_LOOK_SECONDS = 1.5
MIN_ROWS, GOOD_ROWS = 10, 100
"""Azure trains on no fewer than ten rows, and advises hundreds."""

Row = dict[str, Any]


class DataStep:
    """`role` is `training` or `validation`; what is chosen stands in the draft as `training_file`."""

    def __init__(self, visit: Visit, draft: Draft, role: str, changed: Callable[[], None]) -> None:
        self._visit = visit
        self._draft = draft
        self._role = role
        self._changed = changed
        self._rows: list[Row] = []
        self._seen: object = None
        self._timer: ui.timer | None = None

    @property
    def _picked(self) -> str:
        return str(self._draft.get(f"{self._role}_file") or "")

    @property
    def _source(self) -> str:
        default = "existing" if self._role == "training" else "none"
        return str(self._draft.get(f"{self._role}_source") or default)

    async def show(self) -> None:
        t = self._visit.t
        self._rows = await self._visit.api.every("/files", purpose="fine-tune")
        sources = ("existing", "local", "url") if self._role == "training" else ("none", "existing", "local", "url")
        choices = [Choice(one, t(f"create.source_{one}"), t(f"create.source_{one}_note")) for one in sources]
        radio_cards(t("create.source"), choices, self._source, self._choose_source, kind="few")
        self._body = ui.element("div").classes("stack")
        self._card = ui.element("div").props("aria-live=polite")
        self._draw_body()
        await self._draw_card()
        self._timer = ui.timer(_LOOK_SECONDS, self._look, active=self._waits())

    # --- where it comes from ------------------------------------------------------------------------------------------

    def _choose_source(self, value: str) -> None:
        self._draft[f"{self._role}_source"] = value
        self._draw_body()
        self._card.set_visibility(value != "none")
        self._changed()

    def _draw_body(self) -> None:
        self._body.clear()
        self._card.set_visibility(self._source != "none")
        with self._body:
            if self._source == "existing":
                self._draw_files()
            elif self._source == "local":
                DropZone(self._visit, self._arrived, label=self._visit.t(f"create.drop_{self._role}"))
            elif self._source == "url":
                self._draw_import()

    def _draw_files(self) -> None:
        t = self._visit.t
        if not self._rows:
            empty(t("create.no_files"))
            if self._role == "training":
                button(self._visit, t("create.use_sample"), self._use_sample, action=UPLOAD, icon="science")
            return

        def draw(asked: str) -> None:
            shown.clear()
            wanted = [row for row in self._rows if asked.lower() in f"{row['filename']} {row['id']}".lower()]
            with shown:
                radio_cards(
                    t("create.source_existing"),
                    [self._choice(row) for row in wanted],
                    self._picked,
                    self._pick,
                    kind="rows",
                )

        if len(self._rows) > _MANY:
            search = ui.input(t("create.search_file"), on_change=lambda event: draw(str(event.value or "")))
            search.props("outlined dense clearable debounce=200")
        shown = ui.element("div")
        draw("")

    def _choice(self, row: Row) -> Choice:
        t = self._visit.t
        facts = f"{t.size(row['bytes'])} · {t.moment(row['created_at'])}"
        refused = t("create.file_unusable") if row["status"] == "error" else ""
        return Choice(row["id"], row["filename"], facts, status=row["status"], refused=refused)

    def _draw_import(self) -> None:
        t = self._visit.t
        with ui.element("form").classes("stack").props('autocomplete="off"') as form:
            name = self._field("filename", "create.url_filename")
            url = self._field("url", "create.url_location")
            refusals = ui.element("div")

            async def fetch() -> None:
                for field in (name, url):
                    field.error = None
                if not (name.value and url.value):
                    (url if name.value else name).error = t("create.fill_in")
                    return
                body = {"filename": name.value, "content_url": url.value, "purpose": "fine-tune"}
                refusals.clear()
                try:
                    row = await self._visit.api.data("POST", "/files/import", json=body)
                except Refused as error:
                    _beside(error, {"filename": name, "content_url": url}, refusals)
                    return
                await self._take(row)

            form.on("submit", fetch, args=[], js_handler="(e) => { e.preventDefault(); emit(); }")
            with ui.element("div").classes("row"):
                button(self._visit, t("create.import"), fetch, action=IMPORT, icon="cloud_download")
        ui.label(t("create.url_note")).classes("reason")

    def _field(self, name: str, key: str) -> ui.input:
        """Its text is kept with the draft."""
        place = f"{self._role}_{name}"

        def keep(event: Any) -> None:
            self._draft[place] = event.value or ""

        return ui.input(self._visit.t(key), value=str(self._draft.get(place) or ""), on_change=keep).props("outlined")

    async def _use_sample(self) -> None:
        rows = await attempt(sample.files(self._visit.api))
        if rows is not None:
            self._draft.update(validation_file=rows[1]["id"], validation_source="existing")
            await self._take(rows[0])
            self._draw_body()

    # --- what was chosen ----------------------------------------------------------------------------------------------

    async def _arrived(self, file: Uploaded) -> None:
        await self._take(await self._visit.api.data("GET", f"/files/{file.id}"))

    async def _take(self, row: Row) -> None:
        self._rows = [row, *(one for one in self._rows if one["id"] != row["id"])]
        await self._pick(row["id"])

    async def _pick(self, file_id: str) -> None:
        self._draft[f"{self._role}_file"] = file_id
        self._changed()
        await self._draw_card()
        if self._timer is not None:
            self._timer.active = self._waits()

    def _row(self) -> Row | None:
        return next((row for row in self._rows if row["id"] == self._picked), None)

    def _waits(self) -> bool:
        row = self._row()
        return row is not None and row["status"] in PENDING

    async def _look(self) -> None:
        """Until the service has judged the chosen file."""
        picked = self._picked
        try:
            row: Row | None = await self._visit.api.fresh(f"/files/{picked}", _LOOK_SECONDS)
        except Refused as error:
            if error.status != 404:
                return
            row = None
        if picked != self._picked:
            return
        others = [one for one in self._rows if one["id"] != picked]
        self._rows = others if row is None else [row, *others]
        if self._timer is not None:
            self._timer.active = self._waits()
        await self._draw_card()
        if self._source == "existing" and not self._waits():
            self._draw_body()

    async def _draw_card(self) -> None:
        row = self._row()
        model = str(self._draft.get("model") or "")
        facts = Facts() if row is None else await facts_of(self._visit, row, model)
        if row is not None and row["id"] != self._picked:
            # Another one was chosen while this one was counted.
            return
        if self._role == "training" and facts.kind:
            self._fit_method("dpo" if facts.kind == "preference" else "supervised")
        seen = (self._picked, row and row["status"], facts)
        if seen == self._seen:
            return
        self._seen = seen
        t = self._visit.t
        self._card.clear()
        if not self._picked:
            return
        with self._card, ui.element("div").classes("chosen-file"):
            if row is None:
                problem(t("create.file_gone", file=self._picked))
                return
            with ui.element("div").classes("spread"):
                ui.label(t("create.chosen", name=row["filename"])).classes("choice-label")
                status(row["status"])
            ui.label(facts.text).classes("quiet")
            for text in facts.warnings if self._role == "training" else ():
                ui.label(text).classes("warning")
            if self._role == "training" and facts.kind == "preference":
                ui.label(t("create.holds_pairs")).classes("advice")
            if row["status"] == "error":
                problem(str(row.get("status_details") or t("create.file_unusable")))
            ui.link(t("create.look_at_file"), f"/files/{row['id']}")
            if self._role == "validation" and self._picked == self._draft.get("training_file"):
                ui.label(t("create.same_file")).classes("warning")

    def _fit_method(self, method: str) -> None:
        """Pairs are learned one way only, and answers the other."""
        if self._draft.get("method") != method:
            self._draft["method"] = method
            self._draft.pop("refused", None)

    def fault(self) -> str:
        """Why one cannot go on from here; empty when one can."""
        if self._source == "none":
            return ""
        row = self._row()
        if row is None:
            return self._visit.t("create.choose_file")
        return self._visit.t("create.file_unusable") if row["status"] == "error" else ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the service found in a file: a line of figures, and what speaks against training on it."""

    text: str = ""
    warnings: tuple[str, ...] = ()
    kind: str = ""


async def facts_of(visit: Visit, row: Row, model: str) -> Facts:
    """The service counts rows and tokens, for the chosen model when there is one."""
    t = visit.t
    if row["status"] in PENDING:
        return Facts(t("create.file_checking"))
    size = t.size(row["bytes"])
    if row["status"] != "processed":
        return Facts(size)
    # Checkpoints are no models of the list; any template will do for counting.
    asked = {"model": model} if model and "ckpt" not in model else {}
    try:
        found = await visit.api.fresh(f"/files/{row['id']}/statistics", 60, plane="own", **asked)
    except Refused as error:
        return Facts(size, (error.message,))
    return judged(t, found, size)


def judged(t: Words, found: Mapping[str, Any], size: str) -> Facts:
    rows, tokens = t.number(found["examples"]), t.number(found["tokens"])
    warnings: list[str] = []
    if found["examples"] < MIN_ROWS:
        warnings.append(t("create.too_few", rows=rows, least=MIN_ROWS))
    elif found["examples"] < GOOD_ROWS:
        warnings.append(t("create.rather_few", rows=rows))
    if found["too_long"]:
        warnings.append(t("create.too_long", rows=t.number(found["too_long"]), tokens=t.number(found["max_tokens"])))
    if found["unusable"]:
        warnings.append(t("create.unusable", rows=t.number(found["unusable"])))
    return Facts(t("create.file_facts", rows=rows, tokens=tokens, size=size), tuple(warnings), found["kind"] or "")


def _beside(error: Refused, fields: dict[str, ui.input], otherwise: ui.element) -> None:
    """A refusal beside the field that caused it."""
    field = fields.get(error.param)
    if field is not None:
        field.error = error.message
        return
    with otherwise:
        problem(error)
