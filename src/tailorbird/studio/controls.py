"""The parts pages are made of: titles, status words, refusals, copies, confirmations, buttons that know roles."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from nicegui import ui

from tailorbird.studio.client import Refused
from tailorbird.studio.visit import Visit

# Words of the service's own states, by how they should look.
_GOOD = frozenset({"succeeded", "processed", "completed", "ready"})
_BAD = frozenset({"failed", "error", "canceled", "cancelled"})
_BUSY = frozenset(
    {"running", "creating", "deleting", "pending", "queued", "notrunning", "uploaded", "validating_files"}
)


def title(visit: Visit, text: str, lead: str = "") -> None:
    """The page's one `h1`, and the window's title."""
    ui.page_title(f"{text} · Tailorbird Studio")
    with ui.element("header").classes("page-title"):
        heading(text, 1)
        if lead:
            ui.label(lead).classes("lead")


def heading(text: str, level: int = 2) -> ui.element:
    """A heading of the right level for those who listen to the page."""
    with ui.element(f"h{level}").classes(f"h{level}") as element:
        ui.label(text).classes("inline")
    return element


@contextmanager
def card(heading_text: str = "") -> Generator[ui.element]:
    """A quiet surface; `with card(...)`."""
    with ui.element("section").classes("card") as element:
        if heading_text:
            heading(heading_text, 2)
        yield element


def status(word: str) -> ui.label:
    """A state in the service's own word, with a colour and a shape that repeat it."""
    plain = word.lower()
    kind = "good" if plain in _GOOD else "bad" if plain in _BAD else "busy" if plain in _BUSY else "plain"
    return ui.label(word).classes(f"status status-{kind}")


def problem(error: Refused | str) -> ui.element:
    """A refusal in the service's own words, where the eye is."""
    text = error.message if isinstance(error, Refused) else error
    with ui.element("div").classes("problem").props("role=alert") as element:
        for line in text.splitlines() or [""]:
            ui.label(line)
    return element


def empty(text: str) -> ui.element:
    with ui.element("div").classes("empty") as element:
        ui.label(text)
    return element


def button(
    visit: Visit,
    text: str,
    on_click: Callable[[], Any],
    *,
    action: str | None = None,
    icon: str | None = None,
    kind: str = "plain",
) -> ui.button:
    """`kind` is `primary`, `plain` or `danger`. Without the right to `action` it is greyed
    and says which role it needs."""
    props = {
        "primary": "unelevated color=primary",
        "plain": "outline color=primary",
        "danger": "outline color=negative",
    }
    made = ui.button(text, icon=icon, on_click=on_click).props(f"no-caps {props[kind]}")
    reason = visit.refusal(action) if action else None
    if reason is not None:
        made.disable()
        # A disabled button takes no focus: the reason is text beside it for those who cannot hover.
        made.tooltip(reason)
        ui.label(reason).classes("reason")
    return made


def copy_button(visit: Visit, text: str) -> ui.button:
    """Puts `text` on the clipboard; without one (plain http from another machine) by the old way."""
    made = ui.button(icon="content_copy").props(f'flat round dense aria-label="{visit.t("shell.copy")}"')
    made.on("click", js_handler=f"() => studio.copy({json.dumps(text)}, {json.dumps(visit.t('shell.copied'))})")
    return made


def code(visit: Visit, text: str, label: str) -> None:
    """A snippet with a copy button."""
    with ui.element("figure").classes("snippet").props(f'aria-label="{label}"'):
        with ui.element("pre").props('tabindex="0"'):
            ui.label(text).classes("mono")
        copy_button(visit, text)


async def confirm(visit: Visit, question: str, yes: str) -> bool:
    """A dialog; True when the person said yes."""
    with ui.dialog() as dialog, ui.card().classes("dialog"):
        ui.label(question)
        with ui.row().classes("dialog-buttons"):
            ui.button(visit.t("shell.cancel"), on_click=lambda: dialog.submit(False)).props("flat no-caps")
            ui.button(yes, on_click=lambda: dialog.submit(True)).props("unelevated no-caps color=negative")
    answer = await dialog
    dialog.delete()
    return bool(answer)


async def attempt(work: Awaitable[Any], beside: ui.element | None = None) -> Any:
    """The result of a call; a refusal is shown in `beside` (emptied first) or as a notice, and None comes back."""
    if beside is not None:
        beside.clear()
    try:
        return await work
    except Refused as error:
        if beside is None:
            ui.notify(error.message, type="negative", multi_line=True, close_button=True, timeout=10_000)
        else:
            with beside:
                problem(error)
        return None
