"""The conversation with its settings as code, in a dialog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from tailorbird.studio.pages import snippets
from tailorbird.studio.pages.deployment_use import show_code
from tailorbird.studio.pages.playground_choices import Choice
from tailorbird.studio.pages.playground_setup import CHAT, Setup
from tailorbird.studio.pages.playground_talk import Turn, chat_body, completion_body
from tailorbird.studio.visit import Visit


def body_of(setup: Setup, draft: str) -> dict[str, Any]:
    """What a send would ask of the left side now; without a draft, what was asked last."""
    turns: Sequence[Turn] = setup.turns
    if draft.strip():
        turns = [*turns, Turn("draft", draft)]
    if setup.mode == CHAT:
        return chat_body(turns, 0, setup.text("system"), setup.settings)
    return completion_body(turns[-1].asked if turns else "", setup.settings)


async def show_code_dialog(visit: Visit, setup: Setup, known: Mapping[str, Choice], draft: str) -> None:
    choice = known.get(setup.text("left"))
    if choice is None:
        return
    t = visit.t
    body = body_of(setup, draft)
    if setup.mode == CHAT and [one["role"] for one in body["messages"]][-1:] != ["user"]:
        body["messages"].append({"role": "user", "content": t("deployments.sample")})
    endpoint = await snippets.endpoint_of(visit)
    call = snippets.Call(endpoint, choice.target.name, body, is_chat=setup.mode == CHAT, direct=choice.target.direct)
    # A model by its own name answers on OpenAI's surface alone: Azure's client puts a deployment into its path.
    azure = [] if choice.target.direct else [("Python · AzureOpenAI", snippets.python_azure(call))]
    with ui.dialog() as dialog, ui.card().classes("dialog code-dialog"):
        dialog.props(f'aria-label="{t("playground.view_code")}"')
        ui.label(t("playground.code_title")).classes("h2")
        ui.label(t("deployments.key_note")).classes("reason")
        python = [*azure, ("Python · v1", snippets.python_v1(call))]
        show_code(visit, [*python, ("curl", snippets.curl(call)), ("JavaScript", snippets.javascript(call))])
        with ui.row().classes("dialog-buttons"):
            ui.button(t("shell.close"), on_click=dialog.close).props("flat no-caps")
    dialog.on("hide", dialog.delete)
    dialog.open()
