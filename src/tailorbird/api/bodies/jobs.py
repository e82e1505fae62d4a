"""Bodies of fine-tuning jobs."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from tailorbird.api.bodies import Body, Metadata
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Hyperparameters, Method, WandbIntegration

MAX_SEED = 2**31 - 1
MAX_BETA = 2

_AUTO = (None, "auto", -1, "-1")
_TRAINING_TYPES = {
    "standard": "standard",
    "globalstandard": "globalStandard",
    "developertier": "developerTier",
    "developer": "developerTier",
    "datazonestandard": "datazoneStandard",
}
_TRAINING_TYPE_NUMBERS = {0: "standard", 1: "globalStandard", 2: "developerTier"}


def _whole(low: int, high: int) -> BeforeValidator:
    def read(value: Any) -> int | None:
        if value in _AUTO:
            return None
        number = _number(value)
        # The bounds first: what is infinite has no whole part.
        if number is None or not low <= number <= high or number != int(number):
            raise ValueError(f"use a whole number from {low} to {high}, or 'auto'")
        return int(number)

    return BeforeValidator(read)


def _or_auto(**number: Any) -> WithJsonSchema:
    """What the description says of a hyperparameter: the number, or a spelling of automatic."""
    return WithJsonSchema({"anyOf": [number, {"enum": ["auto", -1, None]}]})


def _above_zero(value: Any) -> float | None:
    if value in _AUTO:
        return None
    number = _number(value)
    if number is None or not 0 < number < float("inf"):
        raise ValueError("use a number above 0, or 'auto'")
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _beta(value: Any) -> float | None:
    if value in _AUTO:
        return None
    number = _number(value)
    if number is None or not 0 < number <= MAX_BETA:
        raise ValueError(f"use a number above 0 and up to {MAX_BETA}, or 'auto'")
    return number


def _l2(value: Any) -> float | None:
    """0 and every spelling of automatic are none."""
    if value in _AUTO:
        return None
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        raise ValueError("use a number from 0 to 1")
    return number or None


def _patience(value: Any) -> int | None:
    """Ours, and off unless asked for: 0 and every spelling of automatic are none."""
    if value in _AUTO:
        return None
    number = _number(value)
    if number is None or not 0 <= number <= 50 or number != int(number):
        raise ValueError("use a whole number of epochs from 0 to 50")
    return int(number) or None


_NO_PROMPT_LOSS = ((None, 0, 0.0), "only the assistant's tokens are learned; leave it out or send 0")
_NO_L2 = ((*_AUTO, 0, 0.0), "it belongs into the hyperparameters of the method 'dpo'")


class HyperparametersBody(Body):
    unsupported: ClassVar = {"prompt_loss_weight": _NO_PROMPT_LOSS}
    n_epochs: Annotated[int | None, _whole(1, 50), _or_auto(type="integer", minimum=1, maximum=50)] = None
    batch_size: Annotated[int | None, _whole(1, 256), _or_auto(type="integer", minimum=1, maximum=256)] = None
    learning_rate_multiplier: Annotated[
        float | None, BeforeValidator(_above_zero), _or_auto(type="number", exclusiveMinimum=0)
    ] = None
    beta: Annotated[
        float | None, BeforeValidator(_beta), _or_auto(type="number", exclusiveMinimum=0, maximum=MAX_BETA)
    ] = None
    l2_multiplier: Annotated[float | None, BeforeValidator(_l2), _or_auto(type="number", minimum=0, maximum=1)] = None
    early_stop_patience: Annotated[
        int | None, BeforeValidator(_patience), _or_auto(type="integer", minimum=0, maximum=50)
    ] = None

    def value(self) -> Hyperparameters:
        return Hyperparameters(
            self.n_epochs,
            self.batch_size,
            self.learning_rate_multiplier,
            self.beta,
            self.l2_multiplier,
            self.early_stop_patience,
        )


class MethodOptionsBody(HyperparametersBody):
    """`hyperparameters` as the specification has it, or its fields flat, as some documentation has them."""

    hyperparameters: HyperparametersBody | None = None

    def value(self) -> Hyperparameters:
        nested = self.hyperparameters.value() if self.hyperparameters is not None else Hyperparameters()
        return merged(nested, HyperparametersBody.value(self))


class MethodBody(Body):
    type: Annotated[str, Field(json_schema_extra={"enum": list(Method)})]
    supervised: MethodOptionsBody | None = None
    dpo: MethodOptionsBody | None = None
    reinforcement: Any = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_reinforcement(cls, raw: Any) -> Any:
        kind: Any = raw.get("type") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if kind == "reinforcement":
            raise InvalidRequest(
                f"The method 'reinforcement' is not supported yet; use {_METHODS}. Where a better and a worse answer "
                "are known, 'dpo' learns from the two.",
                param="method.type",
            )
        return raw  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _check(self) -> MethodBody:
        if self.type not in set(Method):
            raise InvalidRequest(f"There is no method '{self.type}'; use {_METHODS}.", param="method.type")
        for name in ("supervised", "dpo", "reinforcement"):
            if name != self.type and getattr(self, name) is not None:
                raise InvalidRequest(
                    f"'method.{name}' does not belong to the method '{self.type}'.", param=f"method.{name}"
                )
        return self

    def options(self) -> Hyperparameters:
        given = self.dpo if self.type == Method.DPO else self.supervised
        return Hyperparameters() if given is None else given.value()


_METHODS = " or ".join(f"'{method}'" for method in Method)


class WandbBody(Body):
    project: Annotated[str, Field(min_length=1, max_length=128)]
    name: Annotated[str, Field(max_length=128)] | None = None
    entity: Annotated[str, Field(max_length=128)] | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=32)] | None = None


class WandbKeyBody(Body):
    api_key: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^\S+$")]


class IntegrationBody(Body):
    type: Literal["wandb"]
    wandb: WandbBody

    def value(self) -> WandbIntegration:
        return WandbIntegration(self.wandb.project, self.wandb.name, self.wandb.entity, tuple(self.wandb.tags or ()))


def _training_type(value: Any) -> str | None:
    """Azure's own spelling of a training type, which it echoes; litellm sends its number."""
    if value is None:
        return None
    if isinstance(value, str) and value.lower() in _TRAINING_TYPES:
        return _TRAINING_TYPES[value.lower()]
    if isinstance(value, int) and not isinstance(value, bool) and value in _TRAINING_TYPE_NUMBERS:
        return _TRAINING_TYPE_NUMBERS[value]
    raise ValueError("use Standard, GlobalStandard, DatazoneStandard or DeveloperTier")


class CreateJobBody(Body):
    unsupported: ClassVar = {"prompt_loss_weight": _NO_PROMPT_LOSS, "l2_multiplier": _NO_L2}
    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    suffix: str | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: Metadata | None = None
    training_type: Annotated[
        str | None, BeforeValidator(_training_type), WithJsonSchema({"enum": [*_TRAINING_TYPES.values(), None]})
    ] = Field(default=None, alias="trainingType")

    integrations: Annotated[list[IntegrationBody], Field(max_length=5)] | None = None

    def chosen_method(self) -> Method:
        return Method.SUPERVISED if self.method is None else Method(self.method.type)

    def asked(self) -> Hyperparameters:
        """Of the places a hyperparameter may stand in, `method` wins."""
        top = self.hyperparameters.value() if self.hyperparameters is not None else Hyperparameters()
        asked = top if self.method is None else merged(self.method.options(), top)
        for name, value in (("beta", asked.beta), ("l2_multiplier", asked.l2_multiplier)):
            if value is not None and self.chosen_method() is Method.SUPERVISED:
                raise InvalidRequest(
                    f"'{name}' belongs to the method 'dpo'; the method 'supervised' has no use for it. Leave it out, "
                    'or send "method": {"type": "dpo"}.',
                    param=name,
                )
        if asked.early_stop_patience is not None and self.validation_file is None:
            raise InvalidRequest(
                "'early_stop_patience' compares losses on a validation file; name one in 'validation_file', or leave "
                "it out.",
                param="early_stop_patience",
            )
        return asked


def merged(first: Hyperparameters, second: Hyperparameters) -> Hyperparameters:
    """`first`, and where it leaves a choice, `second`."""
    chosen = {name: value for name, value in dataclasses.asdict(first).items() if value is not None}
    return dataclasses.replace(second, **chosen)
