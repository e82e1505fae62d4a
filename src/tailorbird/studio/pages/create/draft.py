"""What the wizard remembers between its steps, what is missing, and the request it becomes; no widgets."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

STEPS = ("model", "training", "validation", "parameters", "review", "start")
"""As Azure documents its wizard. The last is reached by starting the job."""
REVIEW = 5

HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta", "early_stop_patience")
_STEP_OF = {
    "model": 1,
    "training_file": 2,
    "validation_file": 3,
    "suffix": 4,
    "seed": 4,
    "method": 4,
    **dict.fromkeys(HYPERPARAMETERS, 4),
}
_WHOLE = {"n_epochs": (1, 50), "batch_size": (1, 256), "early_stop_patience": (1, 50), "seed": (0, 2**31 - 1)}
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_BETA = 2.0

Draft = MutableMapping[str, Any]


def prefill(draft: Draft, model: str, training_file: str) -> int:
    """Takes over what a link asks for; the step to go on with."""
    if model:
        draft["model"] = model
    if training_file:
        draft.update(training_file=training_file, training_source="existing")
    return 3 if model and training_file else 2 if model else 1


def missing(draft: Mapping[str, Any]) -> int:
    """The first step that still needs something; the review when none does."""
    if not draft.get("model"):
        return 1
    if not draft.get("training_file"):
        return 2
    if _validated(draft) and not draft.get("validation_file"):
        return 3
    return 4 if any(faults(draft).values()) else REVIEW


def step_asked(draft: Mapping[str, Any], asked: str) -> int:
    """Where the wizard stands: what the address asks for, but never behind what is missing. Without an address the
    step that was left."""
    text = asked or str(draft.get("step") or 1)
    number = int(text) if text.isdecimal() else 1
    return max(1, min(number, missing(draft), REVIEW))


def step_of(param: str) -> int:
    """The step that has the field a refusal names, such as `method.dpo.hyperparameters.beta`."""
    return _STEP_OF.get(field_of(param), REVIEW)


def field_of(param: str) -> str:
    """`n_epochs` for `hyperparameters.n_epochs`; the parameter itself where we know no such field."""
    parts = param.split(".")
    return next((part for part in reversed(parts) if part in _STEP_OF), parts[0])


def _validated(draft: Mapping[str, Any]) -> bool:
    return str(draft.get("validation_source") or "none") != "none"


def has_validation(draft: Mapping[str, Any]) -> bool:
    return _validated(draft) and bool(draft.get("validation_file"))


def is_custom(draft: Mapping[str, Any]) -> bool:
    return draft.get("mode") == "custom"


def method(draft: Mapping[str, Any]) -> str:
    return "dpo" if draft.get("method") == "dpo" else "supervised"


def shown_hyperparameters(draft: Mapping[str, Any]) -> tuple[str, ...]:
    """Those this job can have."""
    hidden = {"beta"} if method(draft) == "supervised" else set[str]()
    if not has_validation(draft):
        hidden.add("early_stop_patience")
    return tuple(name for name in HYPERPARAMETERS if name not in hidden)


def faults(draft: Mapping[str, Any]) -> dict[str, str]:
    """By field of the parameters step: a key of the catalogue, or nothing. What the service would refuse anyway."""
    fields = ("suffix", "seed", *(shown_hyperparameters(draft) if is_custom(draft) else ()))
    return {name: fault(name, str(draft.get(name) or "")) for name in fields}


def fault(name: str, text: str) -> str:
    """The key of what is wrong with a field's text; empty when nothing is. An empty field is left to the service."""
    text = text.strip()
    if not text:
        return ""
    if name == "suffix":
        return "" if _SUFFIX.fullmatch(text) else "create.fault_suffix"
    number = _number(text)
    if name in _WHOLE:
        low, high = _WHOLE[name]
        good = number is not None and number == int(number) and low <= number <= high
        return "" if good else f"create.fault_{name}"
    if name == "beta":
        return "" if number is not None and 0 < number <= _MAX_BETA else "create.fault_beta"
    return "" if number is not None and number > 0 else "create.fault_learning_rate_multiplier"


def _number(text: str) -> float | None:
    # People write decimals as their language does.
    plain = text.strip().replace(",", ".")
    return float(plain) if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", plain) else None


def _value(name: str, text: str) -> int | float | None:
    number = _number(text)
    return None if number is None else int(number) if name in _WHOLE else number


def body(draft: Mapping[str, Any]) -> dict[str, Any]:
    """The request that makes the job, or asks for its estimate. What was left open is left out: the service decides."""
    asked: dict[str, Any] = {"model": draft["model"], "training_file": draft["training_file"]}
    if has_validation(draft):
        asked["validation_file"] = draft["validation_file"]
    if suffix := str(draft.get("suffix") or "").strip():
        asked["suffix"] = suffix
    if (seed := _value("seed", str(draft.get("seed") or ""))) is not None:
        asked["seed"] = seed
    chosen = {
        name: value
        for name in (shown_hyperparameters(draft) if is_custom(draft) else ())
        if (value := _value(name, str(draft.get(name) or ""))) is not None
    }
    if method(draft) == "dpo":
        asked["method"] = {"type": "dpo", "dpo": {"hyperparameters": chosen}}
    elif chosen:
        asked["hyperparameters"] = chosen
    return asked
