"""Request bodies: parsed strictly, every field honoured or refused by name; and the envelope of lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tailorbird.api.errors import from_validation
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.jobs import Hyperparameters

B = TypeVar("B", bound="Body")

MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512
MAX_SEED = 2**31 - 1
MAX_PROMPTS = 2048

_AUTO = (None, "auto", -1, "-1")
_TRAINING_TYPES = {
    "standard": "standard",
    "globalstandard": "globalStandard",
    "developertier": "developerTier",
    "developer": "developerTier",
    "datazonestandard": "datazoneStandard",
}
_TRAINING_TYPE_NUMBERS = {0: "standard", 1: "globalStandard", 2: "developerTier"}


class Body(BaseModel):
    """Strict JSON: no coercion, no unknown field. `unsupported` names fields of the vendors' APIs that we do not have,
    with the values that change nothing and are therefore taken, and what to do instead."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    unsupported: ClassVar[Mapping[str, tuple[tuple[Any, ...], str]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        given: dict[str, Any] = dict(raw)  # pyright: ignore[reportUnknownArgumentType]
        for name, (harmless, remedy) in cls.unsupported.items():
            if name in given:
                value = given.pop(name)
                if not any(value == fine and type(value) is type(fine) for fine in harmless):
                    raise InvalidRequest(f"'{name}' is not supported: {remedy}.", param=name)
        return given


def read_body(kind: type[B]) -> Callable[[Request], Awaitable[B]]:
    """A dependency: the request's JSON as `kind`, whatever its Content-Type. Raises InvalidRequest."""

    async def read(request: Request) -> B:
        raw = await request.body()
        if not raw:
            raise InvalidRequest("The body is missing; send a JSON object.")
        try:
            return kind.model_validate_json(raw)
        except ValidationError as error:
            raise from_validation(error.errors(include_url=False)) from error

    return read


def listing(items: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """SDKs page until `has_more` is exactly false; `first_id` and `last_id` are null in an empty list."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


# --- fine-tuning jobs -------------------------------------------------------------------------------------------------


def _whole(low: int, high: int) -> BeforeValidator:
    def read(value: Any) -> int | None:
        if value in _AUTO:
            return None
        number = _number(value)
        if number is None or number != int(number) or not low <= number <= high:
            raise ValueError(f"use a whole number from {low} to {high}, or 'auto'")
        return int(number)

    return BeforeValidator(read)


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


_NO_PROMPT_LOSS = ((None, 0, 0.0), "only the assistant's tokens are learned; leave it out or send 0")


class HyperparametersBody(Body):
    unsupported: ClassVar = {
        "prompt_loss_weight": _NO_PROMPT_LOSS,
        "beta": ((None,), "it belongs to the method 'dpo'"),
    }
    n_epochs: Annotated[int | None, _whole(1, 50)] = None
    batch_size: Annotated[int | None, _whole(1, 256)] = None
    learning_rate_multiplier: Annotated[float | None, BeforeValidator(_above_zero)] = None

    def value(self) -> Hyperparameters:
        return Hyperparameters(self.n_epochs, self.batch_size, self.learning_rate_multiplier)


class SupervisedBody(HyperparametersBody):
    """`hyperparameters` as the specification has it, or its fields flat, as some documentation has them."""

    hyperparameters: HyperparametersBody | None = None

    def value(self) -> Hyperparameters:
        nested = self.hyperparameters.value() if self.hyperparameters is not None else Hyperparameters()
        return merged(nested, HyperparametersBody.value(self))


class MethodBody(Body):
    type: str
    supervised: SupervisedBody | None = None
    dpo: Any = None
    reinforcement: Any = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_other(cls, raw: Any) -> Any:
        kind: Any = raw.get("type") if isinstance(raw, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if kind in ("dpo", "reinforcement"):
            raise InvalidRequest(f"The method '{kind}' is not supported yet; use 'supervised'.", param="method.type")
        return raw  # pyright: ignore[reportUnknownVariableType]

    @model_validator(mode="after")
    def _check(self) -> MethodBody:
        if self.type != "supervised":
            raise InvalidRequest(f"There is no method '{self.type}'; use 'supervised'.", param="method.type")
        for name in ("dpo", "reinforcement"):
            if getattr(self, name) is not None:
                raise InvalidRequest(
                    f"'method.{name}' does not belong to the method 'supervised'.", param=f"method.{name}"
                )
        return self


def _check_metadata(value: dict[str, str] | None) -> dict[str, str] | None:
    pairs = value or {}
    if len(pairs) > MAX_METADATA:
        raise ValueError(f"at most {MAX_METADATA} pairs are kept")
    if any(not 1 <= len(k) <= MAX_METADATA_KEY or len(v) > MAX_METADATA_VALUE for k, v in pairs.items()):
        raise ValueError(f"keys have 1 to {MAX_METADATA_KEY} characters, values up to {MAX_METADATA_VALUE}")
    return value


Metadata = Annotated[dict[str, str], AfterValidator(_check_metadata)]


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
    unsupported: ClassVar = {
        "prompt_loss_weight": _NO_PROMPT_LOSS,
        "integrations": (
            (None, []),
            "this service sends nothing to third parties; read the job's events and results.csv",
        ),
    }
    model: Annotated[str, Field(min_length=1)]
    training_file: Annotated[str, Field(min_length=1)]
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    suffix: str | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = None
    metadata: Metadata | None = None
    training_type: Annotated[str | None, BeforeValidator(_training_type)] = Field(default=None, alias="trainingType")

    def asked(self) -> Hyperparameters:
        """Of the places a hyperparameter may stand in, `method` wins."""
        top = self.hyperparameters.value() if self.hyperparameters is not None else Hyperparameters()
        supervised = self.method.supervised if self.method is not None else None
        return top if supervised is None else merged(supervised.value(), top)


def merged(first: Hyperparameters, second: Hyperparameters) -> Hyperparameters:
    """`first`, and where it leaves a choice, `second`."""
    return Hyperparameters(
        n_epochs=second.n_epochs if first.n_epochs is None else first.n_epochs,
        batch_size=second.batch_size if first.batch_size is None else first.batch_size,
        learning_rate_multiplier=(
            second.learning_rate_multiplier
            if first.learning_rate_multiplier is None
            else first.learning_rate_multiplier
        ),
    )


# --- inference --------------------------------------------------------------------------------------------------------


def _stops(value: Any) -> Any:
    stops: Any = [value] if isinstance(value, str) else value
    if stops is not None and (
        not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    ):
        raise ValueError("use a string, or a list of one to four strings that are not empty")
    return stops  # pyright: ignore[reportUnknownVariableType]


def _bias(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("use an object from token ids to numbers")
    read: dict[int, float] = {}
    for key, number in value.items():  # pyright: ignore[reportUnknownVariableType]
        good = isinstance(number, int | float) and not isinstance(number, bool) and -100 <= number <= 100
        if not str(key).isdecimal() or not good:  # pyright: ignore[reportUnknownArgumentType]
            raise ValueError("use an object from token ids to numbers between -100 and 100")
        read[int(str(key))] = float(number)  # pyright: ignore[reportUnknownArgumentType]
    return read


class StreamOptionsBody(Body):
    unsupported: ClassVar = {"include_obfuscation": ((None, False), "nothing is padded; leave it out")}
    include_usage: bool | None = None


Penalty = Annotated[float, Field(ge=-2, le=2)]


class SamplingBody(Body):
    """What chat and completions have in common."""

    # The deployment in an Azure path decides; without one the model is required (checked by the route).
    model: str | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_stops)] = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[int, float] | None, BeforeValidator(_bias)] = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    # Whom an answer was for: nothing is filtered or billed by it here.
    user: str | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @model_validator(mode="after")
    def _check_stream(self) -> SamplingBody:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("'stream_options' is only allowed with 'stream': true.", param="stream_options")
        return self


_NO_TOOLS = "tools cannot be called yet; leave it out"


class ChatBody(SamplingBody):
    unsupported: ClassVar = {
        "tools": ((None, []), _NO_TOOLS),
        "tool_choice": ((None, "none", "auto"), _NO_TOOLS),
        "functions": ((None, []), _NO_TOOLS),
        "function_call": ((None, "none", "auto"), _NO_TOOLS),
        "response_format": ((None, {"type": "text"}), "only {'type': 'text'} is; ask for JSON in the messages"),
        "store": ((None, False), "answers are not kept; leave it out"),
        "modalities": ((None, ["text"]), "answers are text"),
        "audio": ((None,), "answers are text"),
        "prediction": ((None,), "leave it out"),
        "reasoning_effort": ((None,), "the models here do not reason apart from their answer; leave it out"),
        "verbosity": ((None, "medium"), "ask for a shorter or longer answer in the messages"),
        "service_tier": ((None, "auto", "default"), "there is one tier; leave it out"),
        "web_search_options": ((None,), "the service has no access to the web"),
        "data_sources": ((None, []), "put the documents into the messages"),
        "user_security_context": ((None,), "leave it out"),
    }
    messages: Any
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # Without tools there is nothing to call at once; without `store` nothing that metadata would describe.
    parallel_tool_calls: bool | None = None
    metadata: Metadata | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("'top_logprobs' is only allowed with 'logprobs': true.", param="top_logprobs")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise InvalidRequest(
                "'max_tokens' and 'max_completion_tokens' mean the same; send one of them.", param="max_tokens"
            )
        return self


class CompletionBody(SamplingBody):
    unsupported: ClassVar = {"suffix": ((None, ""), "text cannot be inserted, only continued; leave it out")}
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None

    @model_validator(mode="after")
    def _check(self) -> CompletionBody:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise InvalidRequest("'best_of' is not supported unless it equals 'n'; leave it out.", param="best_of")
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("'max_tokens' 0 is only allowed with 'echo': true.", param="max_tokens")
        if not self.prompts:
            raise InvalidRequest("'prompt' is empty; send a text, token ids, or a list of either.", param="prompt")
        if len(self.prompts) > MAX_PROMPTS:
            raise InvalidRequest(
                f"'prompt' has {len(self.prompts)} items; at most {MAX_PROMPTS} are taken.", param="prompt"
            )
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt on its own: a bare string is one, and so is a bare list of token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        texts: list[str | list[int]] = [item for item in self.prompt if not isinstance(item, int)]
        return texts or ([[item for item in self.prompt if isinstance(item, int)]] if self.prompt else [])
