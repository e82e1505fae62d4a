"""First step: the base model, with what each name really is, or a model of one's own to go on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui

from tailorbird.studio.choices import Choice, radio_cards
from tailorbird.studio.controls import heading
from tailorbird.studio.pages.create import prices
from tailorbird.studio.pages.create.draft import Draft
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

_MANY = 8
"""More models than this can be searched."""
_TARIFF_SECONDS = 300

Row = dict[str, Any]


async def show(visit: Visit, draft: Draft, changed: Callable[[], None]) -> None:
    rows: list[Row] = (await visit.api.fresh("/models", 5))["data"]
    lines: list[Row] = (await visit.api.fresh("/tariff", _TARIFF_SECONDS, plane="own"))["data"]
    tariff = {line["id"]: line for line in lines}
    bases, own = tunable(rows)
    picked = str(draft.get("model") or "")
    if picked and picked not in {row["id"] for row in rows}:
        # The list of models has no checkpoints.
        own = [{"id": picked}, *own]

    def choose(value: str) -> None:
        draft["model"] = value
        changed()

    heading(visit.t("create.bases"), 3)
    choices = [choice_of(visit.t, row, tariff.get(row["id"])) for row in bases]
    radio_cards(visit.t("create.bases"), choices, picked, choose, kind="side", group="model")
    heading(visit.t("create.own"), 3)
    ui.label(visit.t("create.own_lead" if own else "create.own_none")).classes("quiet")
    if not own:
        return
    with ui.element("div").classes("stack"):
        _own_models(visit, own, draft, choose)


def _own_models(visit: Visit, own: Sequence[Row], draft: Draft, choose: Callable[[str], None]) -> None:
    def draw(asked: str) -> None:
        shown.clear()
        wanted = [choice_of(visit.t, row) for row in own if asked.lower() in row["id"].lower()]
        picked = str(draft.get("model") or "")
        with shown:
            radio_cards(visit.t("create.own"), wanted, picked, choose, kind="rows", group="model")

    if len(own) > _MANY:
        search = ui.input(visit.t("create.search_model"), on_change=lambda event: draw(str(event.value or "")))
        search.props("outlined dense clearable debounce=200")
    shown = ui.element("div")
    draw("")


def tunable(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Base models that can be tuned, and the account's own models, the newest first."""
    able = [row for row in rows if row["capabilities"]["fine_tune"]]
    own = sorted((row for row in able if row.get("fine_tune")), key=lambda row: -int(row["created_at"]))
    return [row for row in able if not row.get("fine_tune")], own


def choice_of(t: Words, row: Row, line: Row | None = None) -> Choice:
    """Its name, what stands behind it here, and what training it costs."""
    if "tailorbird" not in row:
        return Choice(row["id"], row["id"], t("create.is_checkpoint"))
    really = t(
        "create.really",
        base=row["tailorbird"]["base_model"],
        tokens=t.number(row["tailorbird"]["context_tokens"] or 0),
    )
    if row.get("fine_tune"):
        note = f"{t('create.from_model', model=row.get('model') or '?')} {really}"
        return Choice(row["id"], row["id"], note, t.moment(row["created_at"]))
    kind = "chat" if row["capabilities"]["chat_completion"] else "prompts"
    note = f"{really} {t(f'create.takes_{kind}')}"
    if line is not None:
        note += f" {prices.training(t, line['training']['meter'], line['training']['unit_price'], line['currency'])}"
    return Choice(row["id"], row["id"], note)
