"""Request bodies: parsed strictly, every field honoured or refused by name; and the envelope of lists.

The bodies themselves stand beside this, one module per noun.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from tailorbird.api.errors import from_validation
from tailorbird.domain.errors import InvalidRequest

B = TypeVar("B", bound="Body")

MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE = 16, 64, 512


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


class BodyReader(Generic[B]):
    """A dependency: the request's JSON as `kind`, whatever its Content-Type. Raises InvalidRequest."""

    def __init__(self, kind: type[B]) -> None:
        self.kind = kind

    async def __call__(self, request: Request) -> B:
        raw = await request.body()
        if not raw:
            raise InvalidRequest("The body is missing; send a JSON object.")
        try:
            return self.kind.model_validate_json(raw)
        except ValidationError as error:
            raise from_validation(error.errors(include_url=False)) from error


def read_body(kind: type[B]) -> BodyReader[B]:
    return BodyReader(kind)


def listing(items: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """SDKs page until `has_more` is exactly false; `first_id` and `last_id` are null in an empty list."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _check_metadata(value: dict[str, str] | None) -> dict[str, str] | None:
    pairs = value or {}
    if len(pairs) > MAX_METADATA:
        raise ValueError(f"at most {MAX_METADATA} pairs are kept")
    if any(not 1 <= len(k) <= MAX_METADATA_KEY or len(v) > MAX_METADATA_VALUE for k, v in pairs.items()):
        raise ValueError(f"keys have 1 to {MAX_METADATA_KEY} characters, values up to {MAX_METADATA_VALUE}")
    return value


Metadata = Annotated[dict[str, str], AfterValidator(_check_metadata)]
