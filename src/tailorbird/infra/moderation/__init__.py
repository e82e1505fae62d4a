"""Moderators behind the port: the built-in classifier, a moderation endpoint, a guard model, and none at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailorbird.domain.safety import Category, Scores, Severity

if TYPE_CHECKING:
    from tailorbird.infra.moderation.builtin import Classifier


class PassAll:
    """Finds everything safe: for those who screen elsewhere."""

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        return [dict.fromkeys(Category, Severity.SAFE) for _ in texts]


class BuiltinModerator:
    """Reads numpy and its weights at the first question: a server whose accounts filter nothing never holds them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._classifier: Classifier | None = None
        self._loading = threading.Lock()

    async def score(self, texts: Sequence[str]) -> list[Scores]:
        return await asyncio.to_thread(self._score, texts)

    def _score(self, texts: Sequence[str]) -> list[Scores]:
        with self._loading:
            if self._classifier is None:
                from tailorbird.infra.moderation.builtin import Classifier

                self._classifier = Classifier.load(self._path)
        return self._classifier.classify(texts)
