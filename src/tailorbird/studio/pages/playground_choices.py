"""Whom the playground can ask: deployments, and models by their own names; what each can do and was trained by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.studio.client import Refused
from tailorbird.studio.pages.deployment_facts import Facts, load, short
from tailorbird.studio.pages.playground_talk import Target, Trained, trained_with
from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

# Enough for some dozens of conversations; the system message is the same in all, or it is not.
_HEAD_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Choice:
    """`job` is the job that made the model; empty for a base model, and where it is not known."""

    target: Target
    label: str
    chats: bool
    completes: bool
    base_model: str
    job: str = ""

    def can(self, mode: str) -> bool:
        return self.chats if mode == "chat" else self.completes


def choices(t: Words, rows: Sequence[Facts], models: Sequence[Mapping[str, Any]]) -> dict[str, Choice]:
    """Deployments that answer, newest first, then the models; embeddings are no talk."""
    known = {str(model["id"]): model for model in models}
    found: dict[str, Choice] = {}
    ready = sorted((row for row in rows if row.is_ready), key=lambda row: -(row.created_at or 0))
    for row in ready:
        model = known.get(row.tuned_model) or known.get(row.base_model) or {}
        _add(found, Target(row.name, False), f"{row.name} · {short(row.model)}", model, row.base_model)
    for name, model in known.items():
        label = t("playground.by_name", model=short(name))
        _add(found, Target(name, True), label, model, str(model.get("model") or name))
    return found


def _add(found: dict[str, Choice], target: Target, label: str, model: Mapping[str, Any], base: str) -> None:
    able: Mapping[str, Any] = model.get("capabilities") or {}
    # Of a model that is not listed nobody knows; the service will say.
    chats, completes = (bool(able.get(name, not able)) for name in ("chat_completion", "completion"))
    if chats or completes:
        found[str(target)] = Choice(target, label, chats, completes, base, str(model.get("fine_tune") or ""))


def first(known: Mapping[str, Choice], mode: str, wanted: Sequence[str]) -> str:
    """The first wish that is still there, else a fine-tuned deployment, else whatever can be asked."""
    for value in wanted:
        if value in known:
            return value
    able = [value for value, choice in known.items() if choice.can(mode)]
    tuned = [value for value in able if known[value].job and not known[value].target.direct]
    return next(iter([*tuned, *able, *known]), "")


def base_of(known: Mapping[str, Choice], left: str) -> str:
    """The base model a fine-tuned one was made of, by its own name; empty where there is none to compare with."""
    if left not in known or not known[left].job:
        return ""
    own = str(Target(known[left].base_model, True))
    return own if own in known and own != left else ""


def others(t: Words, known: Mapping[str, Choice], left: str) -> dict[str, str]:
    """What can stand beside: nothing, the base model the left one was made of, then everybody else."""
    options = {"": t("playground.nobody")}
    own = base_of(known, left)
    if own:
        options[own] = t("playground.base_model", model=known[left].base_model)
    return options | {value: one.label for value, one in known.items() if value != left and value not in options}


async def load_choices(visit: Visit) -> dict[str, Choice]:
    """Raises Refused."""
    # Asked anew: who comes from the deployment they have just created must find it here.
    rows = await load(visit, 0.0)
    return choices(visit.t, rows, (await visit.api.fresh("/models", 0.0))["data"])


async def training_of(visit: Visit, job: str) -> Trained | None:
    """How the conversations of a job's training file begin; None when there is no job, or they cannot be read any
    more."""
    if not job:
        return None
    try:
        told = await visit.api.fresh(f"/fine_tuning/jobs/{job}", 60.0)
        path = f"/files/{told['training_file']}/content"
        text = await visit.api.data("GET", path, headers={"range": f"bytes=0-{_HEAD_BYTES - 1}"})
    except Refused:
        return None
    return trained_with(text) if isinstance(text, str) else None
