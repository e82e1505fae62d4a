"""Waits for what is down: ever longer pauses, up to a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from tailorbird.domain.safety import Scores
from tailorbird.service.ports import Clock, Moderator, ModeratorDown

log = logging.getLogger(__name__)

T = TypeVar("T")
Pause = Callable[[float], Awaitable[None]]
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class PatientModerator:
    """Asks again while the moderator is down, for `seconds` in all; then ModeratorDown goes on."""

    moderator: Moderator
    clock: Clock
    seconds: float
    pause: Pause = asyncio.sleep

    async def score(self, texts: list[str]) -> list[Scores]:
        """One a text. Raises ModeratorDown."""
        until = self.clock.now() + timedelta(seconds=self.seconds)
        seconds = _FIRST_PAUSE
        while True:
            try:
                found = await self.moderator.score(texts)
                if len(found) != len(texts):
                    raise ModeratorDown(f"{len(found)} answers came for {len(texts)} texts")
                return found
            except ModeratorDown as down:
                if self.clock.now() >= until:
                    raise
                log.warning("the moderator is down: %s", down)
                await self.pause(seconds)
                seconds = min(2 * seconds, _LONGEST_PAUSE)
