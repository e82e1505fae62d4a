"""The pace of one side: a step begins when the comparison says so, and is timed from there to its end.

Needs nothing but the standard library: it runs in every side's environment. A side says `@waiting` before each step and
reads a line; without one it ends early. At last it says `@result` and its result as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any


class Pace:
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        """Token positions that went through the model in each step, padding and all."""
        self._seen = 0
        self._began = 0.0

    def wait(self) -> bool:
        """False when no further step is asked for."""
        print("\n@waiting", flush=True)
        if not sys.stdin.readline():
            return False
        self._seen = 0
        self._began = time.perf_counter()
        return True

    def done(self) -> None:
        self.seconds.append(time.perf_counter() - self._began)
        self.tokens.append(self._seen)

    def count(self, tokens: int) -> None:
        self._seen += tokens

    def count_calls_of(self, embedding: Any) -> None:
        """Counts what a model looks up in `embedding`, a module of torch."""
        embedding.register_forward_pre_hook(lambda _, inputs: self.count(inputs[0].numel()))

    def report(self, losses: list[float], versions: dict[str, str], **more: Any) -> None:
        result = {
            "seconds": self.seconds,
            "tokens": self.tokens,
            "losses": losses[: len(self.seconds)],
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "versions": versions,
            **more,
        }
        print("\n@result " + json.dumps(result), flush=True)


def trainer_callback(base: Any, pace: Pace) -> Any:
    """A callback of a transformers Trainer, whose class is `base`: steps at this pace, from one's end to the next's."""

    class Steps(base):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            pace.wait()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            pace.done()
            if state.global_step < state.max_steps and not pace.wait():
                control.should_training_stop = True
            return control

    return Steps()
