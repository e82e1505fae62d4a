"""The table of multi-part uploads and their parts."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tailorbird.domain.uploads import Upload, UploadPart


class UploadTable(Protocol):
    def add(self, upload: Upload) -> None:
        """Raises AlreadyThere."""
        ...

    def get(self, account_id: str, upload_id: str) -> Upload | None: ...

    def hold(self, account_id: str, upload_id: str) -> Upload | None:
        """As `get`; until this transaction has ended, others that hold or end the upload wait."""
        ...

    def end(self, upload: Upload) -> bool:
        """Writes status and file unless the upload has ended already; says whether it did."""
        ...

    def add_part(self, part: UploadPart) -> None:
        """Raises AlreadyThere."""
        ...

    def parts(self, upload_id: str) -> list[UploadPart]:
        """In the order they were added."""
        ...

    def count_parts(self, upload_id: str) -> int: ...

    def spent(self, before: datetime, limit: int) -> list[Upload]:
        """Uploads of every account not swept yet that have ended, or whose time was up at `before`."""
        ...

    def swept(self, upload_id: str) -> None:
        """Its parts' rows go, and it is not `spent` any more."""
        ...
