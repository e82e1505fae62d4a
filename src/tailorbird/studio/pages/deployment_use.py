"""How a program talks to a deployment: its address, the account's key, and requests ready to be copied."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from tailorbird.studio import controls
from tailorbird.studio.pages import snippets
from tailorbird.studio.pages.deployment_facts import Facts
from tailorbird.studio.pages.playground_choices import training_of
from tailorbird.studio.visit import LIST_KEYS, READ_MODEL, Visit

_MASK = "•" * 24


async def show_use(visit: Visit, row: Facts) -> None:
    t = visit.t
    call = await _call(visit, row)
    with controls.card(t("deployments.use")):
        with ui.element("div").classes("deploy-access"):
            _copied(visit, t("deployments.endpoint"), call.endpoint)
            _copied(visit, t("deployments.deployment_name"), row.name)
            _key(visit)
        ui.label(t("deployments.key_note")).classes("reason")
        choices = [
            ("Python · AzureOpenAI", snippets.python_azure(call)),
            ("Python · v1", snippets.python_v1(call)),
            ("curl", snippets.curl(call)),
            ("JavaScript", snippets.javascript(call)),
        ]
        if visit.account is not None:
            made = snippets.az(visit.account, row.name, row.model, row.sku, row.capacity, row.version)
            choices.append(("az", made))
        show_code(visit, choices)


def show_code(visit: Visit, choices: list[tuple[str, str]]) -> None:
    """A tab a language; what was chosen last stays chosen."""
    kept = visit.kept("code")
    known = [name for name, _ in choices]
    chosen = str(kept.get("tab", "")) if kept.get("tab") in known else known[0]

    def remember(value: object) -> None:
        kept["tab"] = str(value)

    label = visit.t("deployments.code")
    with ui.tabs(on_change=lambda event: remember(event.value)) as tabs:
        tabs.props(f'no-caps align=left outside-arrows mobile-arrows aria-label="{label}"').classes("code-tabs")
        for name, _ in choices:
            ui.tab(name)
    with ui.tab_panels(tabs, value=chosen, animated=False).classes("code-panels"):
        for name, text in choices:
            with ui.tab_panel(name):
                controls.code(visit, text, name)


def _copied(visit: Visit, name: str, value: str) -> None:
    with ui.element("div").classes("deploy-copied"):
        ui.label(name).classes("reason")
        with ui.element("div").classes("row"):
            ui.label(value).classes("mono")
            controls.copy_button(visit, value)


def _key(visit: Visit) -> None:
    """Fetched when it is asked for: a page that is only looked at holds no secret."""
    t = visit.t
    with ui.element("div").classes("deploy-copied"):
        ui.label(t("deployments.key")).classes("reason")
        reason = visit.refusal(LIST_KEYS)
        with ui.element("div").classes("row") as line:
            shown = ui.label(_MASK).classes("mono")

            async def reveal() -> None:
                told: Any = await controls.attempt(visit.api.arm("POST", "/listKeys"))
                if told is None:
                    return
                shown.text = told["key1"]
                button.delete()
                with line:
                    controls.copy_button(visit, told["key1"])

            button = ui.button(icon="visibility", on_click=reveal)
            button.props(f'flat round dense aria-label="{t("deployments.reveal")}"')
            if reason is not None:
                button.disable()
                button.tooltip(reason)
        if reason is not None:
            ui.label(reason).classes("reason")


async def model_of(visit: Visit, row: Facts) -> dict[str, Any]:
    """The model behind a deployment, as the data plane lists it; empty where it cannot be seen."""
    if not visit.may(READ_MODEL):
        return {}
    models = (await visit.api.fresh("/models", 10.0))["data"]
    known = {one["id"]: one for one in models}
    return known.get(row.tuned_model) or known.get(row.base_model) or {}


async def _call(visit: Visit, row: Facts) -> snippets.Call:
    """A first request; with the system message of the training, which a fine-tuned model expects."""
    model = await model_of(visit, row)
    endpoint, sample = await snippets.endpoint_of(visit), visit.t("deployments.sample")
    if not model.get("capabilities", {}).get("chat_completion", True):
        return snippets.Call(endpoint, row.name, {"prompt": sample, "max_tokens": 100}, is_chat=False)
    trained = await training_of(visit, str(model.get("fine_tune") or ""))
    messages = [{"role": "user", "content": (trained.example if trained else "") or sample}]
    if trained is not None and trained.system:
        messages.insert(0, {"role": "system", "content": trained.system})
    return snippets.Call(endpoint, row.name, {"messages": messages, "max_tokens": 100})
