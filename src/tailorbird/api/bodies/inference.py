"""Bodies of inference: what chat and completions share, completions, embeddings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tailorbird.api.bodies import Body
from tailorbird.domain.errors import InvalidRequest

MAX_PROMPTS = 2048


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
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


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
    def streaming(self) -> StreamOptionsBody:
        return self.stream_options or StreamOptionsBody()

    @model_validator(mode="after")
    def _check_stream(self) -> SamplingBody:
        if self.stream_options is not None and not self.stream:
            raise InvalidRequest("'stream_options' is only allowed with 'stream': true.", param="stream_options")
        return self


class CompletionBody(SamplingBody):
    unsupported: ClassVar = {"suffix": ((None, ""), "text cannot be inserted, only continued; leave it out")}
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _check(self) -> CompletionBody:
        self._check_best_of()
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("'max_tokens' 0 is only allowed with 'echo': true.", param="max_tokens")
        _check_count(self.prompts, "prompt")
        return self

    def _check_best_of(self) -> None:
        drawn, given = self.best_of or None, self.n or 1
        if drawn is None:
            return
        if drawn < given:
            raise InvalidRequest(
                f"'best_of' is {drawn}, but 'n' asks for {given} answers; 'best_of' must not be less than 'n'.",
                param="best_of",
            )
        if drawn > given and self.stream:
            raise InvalidRequest(
                "'best_of' cannot be streamed: which answers are best is known at their end. Leave out 'stream'.",
                param="best_of",
            )

    @property
    def prompts(self) -> list[str | list[int]]:
        return each_of(self.prompt)


class EmbeddingBody(Body):
    unsupported: ClassVar = {"input_type": ((None,), "a question and a document get the same vector; leave it out")}
    # As with chat, the deployment may stand in the path.
    model: str | None = None
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: Annotated[int, Field(ge=1)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _check(self) -> EmbeddingBody:
        _check_count(self.inputs, "input")
        if any(not text for text in self.inputs):
            raise InvalidRequest("'input' holds an empty text; send texts with at least one character.", param="input")
        return self

    @property
    def inputs(self) -> list[str | list[int]]:
        return each_of(self.input)


def each_of(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """Each text on its own: a bare string is one, and so is a bare list of token ids."""
    if isinstance(given, str):
        return [given]
    texts: list[str | list[int]] = [item for item in given if not isinstance(item, int)]
    return texts or ([[item for item in given if isinstance(item, int)]] if given else [])


def _check_count(texts: list[str | list[int]], param: str) -> None:
    if not texts:
        raise InvalidRequest(f"'{param}' is empty; send a text, token ids, or a list of either.", param=param)
    if len(texts) > MAX_PROMPTS:
        raise InvalidRequest(f"'{param}' has {len(texts)} items; at most {MAX_PROMPTS} are taken.", param=param)
