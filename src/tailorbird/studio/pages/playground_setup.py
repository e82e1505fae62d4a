"""What somebody has set up in the playground: whom they ask, with which settings, what was said. Kept on the server."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from tailorbird.studio.pages.playground_run import going
from tailorbird.studio.pages.playground_talk import (
    RUNNING,
    STOPPED,
    Settings,
    Turn,
    chat_body,
    completion_body,
    read_stops,
    restored,
    stored,
)

CHAT, COMPLETIONS = "chat", "completions"
DEFAULTS: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 200, "stop": "", "seed": None}


class Setup:
    """A view of the kept draft; what is set is kept at once."""

    def __init__(self, kept: MutableMapping[str, Any]) -> None:
        self.kept = kept
        self.turns: list[Turn] = []
        self.load()

    @property
    def mode(self) -> str:
        return COMPLETIONS if self.kept.get("mode") == COMPLETIONS else CHAT

    @mode.setter
    def mode(self, mode: str) -> None:
        self.kept["mode"] = mode
        self.load()

    def text(self, name: str) -> str:
        """`left`, `right`, `system`, `prefilled`, `draft`."""
        return str(self.kept.get(name) or "")

    def keep_draft(self, text: str) -> None:
        self.kept["draft"] = text

    def setting(self, name: str) -> Any:
        return self.kept.get(f"set_{name}", DEFAULTS[name])

    def set(self, name: str, value: Any) -> None:
        self.kept[f"set_{name}"] = value

    def reset(self) -> None:
        for name in DEFAULTS:
            self.kept.pop(f"set_{name}", None)

    @property
    def settings(self) -> Settings:
        return Settings(
            temperature=_number(self.setting("temperature")),
            top_p=_number(self.setting("top_p")),
            max_tokens=_whole(self.setting("max_tokens")),
            stop=read_stops(str(self.setting("stop") or "")),
            seed=_whole(self.setting("seed")),
        )

    def load(self) -> None:
        """A turn that is still being answered is the run's own, live; one that a restart broke off has stopped."""
        self.turns = restored(self.kept.get(f"turns_{self.mode}") or [])
        for place, turn in enumerate(self.turns):
            run = going(turn.id)
            if run is not None:
                self.turns[place] = run.turn
                continue
            for answer in turn.answers:
                answer.state = STOPPED if answer.state == RUNNING else answer.state

    def save(self) -> None:
        self.kept[f"turns_{self.mode}"] = stored(self.turns)

    def finish(self, mode: str, turn: Turn) -> None:
        """For a run whose page may be gone: its turn is looked for by its id, and not found when it was cleared."""
        rows: list[dict[str, Any]] = list(self.kept.get(f"turns_{mode}") or [])
        self.kept[f"turns_{mode}"] = [stored([turn])[0] if row.get("id") == turn.id else row for row in rows]

    def bodies(self, count: int) -> list[dict[str, Any]]:
        """A request for each side, for the last turn."""
        if self.mode == COMPLETIONS:
            return [completion_body(self.turns[-1].asked, self.settings)] * count
        return [chat_body(self.turns, side, self.text("system"), self.settings) for side in range(count)]


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None or value == "" else int(value)
