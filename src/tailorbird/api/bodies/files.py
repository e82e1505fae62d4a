"""Bodies of file imports and multi-part uploads."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, model_validator

from tailorbird.api.bodies import Body
from tailorbird.domain.errors import InvalidRequest
from tailorbird.domain.files import check_expiry


class ExpiresAfter(Body):
    anchor: str
    seconds: int

    def life(self) -> timedelta:
        """Raises InvalidRequest."""
        return check_expiry(self.anchor, self.seconds)


class ImportBody(Body):
    filename: str
    purpose: str
    content_url: str
    expires_after: ExpiresAfter | None = None

    @model_validator(mode="before")
    @classmethod
    def _never_show_the_url(cls, raw: Any) -> Any:
        """A fault's text repeats what was sent, and the URL may hold a signature."""
        if isinstance(raw, dict) and not isinstance(raw.get("content_url", ""), str):  # pyright: ignore[reportUnknownMemberType]
            raise InvalidRequest("'content_url' is not valid: it must be a string.", param="content_url")
        return raw  # pyright: ignore[reportUnknownVariableType]


class UploadBody(Body):
    filename: str
    purpose: str
    bytes: int
    mime_type: str
    expires_after: ExpiresAfter | None = None


class CompleteBody(Body):
    part_ids: Annotated[list[str], Field(min_length=1)]
    md5: str | None = None
