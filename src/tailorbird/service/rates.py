"""Rate limits: how many tokens and requests a deployment's capacity lets through in a minute.

Each deployment has two buckets that leak. A request pours its estimated tokens into one and a 1 into the other when it
is received, whatever it will really use; a bucket runs empty in 60 seconds. A request that would make one overflow is
refused and pours nothing. One that is larger than a whole bucket passes when that bucket is empty: Azure's would never
let it through, and here the average still holds, as the next has to wait until the overflow has leaked away.

The buckets belong to this server process; a second server grants the same again.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from datetime import datetime

from tailorbird.domain.deployments import Deployment
from tailorbird.domain.errors import TooManyRequests
from tailorbird.service.ports import Clock

UNSTATED_TOKENS = 16
"""Counted for an answer whose length the request does not limit: the default of `max_tokens` where the API has one."""

_WINDOW_SECONDS = 60.0
_MOST_IDLE = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left after a request was let through; `reset_*` are seconds until the whole limit is free again."""

    limit_requests: int
    remaining_requests: int
    limit_tokens: int
    remaining_tokens: int
    reset_requests: int
    reset_tokens: int


def estimated_tokens(prompt_tokens: int, max_tokens: int | None, answers: int = 1) -> int:
    """What a request is counted as: its prompt and the longest answers (`n` or `best_of` of them) it may cause."""
    return prompt_tokens + answers * (UNSTATED_TOKENS if max_tokens is None else max_tokens)


@dataclass(slots=True)
class _Bucket:
    """`level` is what was poured in and has not leaked yet."""

    level: float = 0.0

    def leak(self, limit: int, seconds: float) -> None:
        self.level = max(0.0, self.level - limit * seconds / _WINDOW_SECONDS)

    def wait(self, amount: int, limit: int) -> float:
        """Seconds until `amount` fits in; 0 when it does now."""
        surplus = self.level - max(0, limit - amount)
        return max(0.0, surplus * _WINDOW_SECONDS / limit)

    def left(self, limit: int) -> int:
        return max(0, math.floor(limit - self.level))

    def reset(self, limit: int) -> int:
        return math.ceil(self.level * _WINDOW_SECONDS / limit)


@dataclass(slots=True)
class _Meter:
    at: datetime
    tokens: _Bucket
    requests: _Bucket


class Rates:
    """Safe to use from several threads. `enabled` False lets everything through."""

    def __init__(self, clock: Clock, *, enabled: bool = True) -> None:
        self._clock = clock
        self._enabled = enabled
        self._meters: dict[tuple[str, str], _Meter] = {}
        self._lock = threading.Lock()

    def admit(
        self, deployment: Deployment, tokens: int, *, operation: str = "ChatCompletions_Create", version: str = "v1"
    ) -> Allowance | None:
        """Counts a request of estimated `tokens` in. None when nothing limits this deployment.

        `operation` and `version` (the api-version) stand in the refusal. Raises TooManyRequests.
        """
        token_limit, request_limit = deployment.tokens_per_minute, deployment.requests_per_minute
        if not self._enabled or token_limit is None or request_limit is None:
            return None
        with self._lock:
            meter = self._meter(deployment, token_limit, request_limit)
            token_wait = meter.tokens.wait(tokens, token_limit)
            request_wait = meter.requests.wait(1, request_limit)
            if token_wait > 0 or request_wait > 0:
                kind = "token" if token_wait >= request_wait else "call"
                raise _refusal(kind, max(token_wait, request_wait), operation, version)
            meter.tokens.level += tokens
            meter.requests.level += 1
            return Allowance(
                limit_requests=request_limit,
                remaining_requests=meter.requests.left(request_limit),
                limit_tokens=token_limit,
                remaining_tokens=meter.tokens.left(token_limit),
                reset_requests=meter.requests.reset(request_limit),
                reset_tokens=meter.tokens.reset(token_limit),
            )

    def _meter(self, deployment: Deployment, token_limit: int, request_limit: int) -> _Meter:
        """With what has leaked since the last request gone, at the rate of the capacity as it is now."""
        now = self._clock.now()
        if len(self._meters) > _MOST_IDLE:
            self._forget_idle(now)
        key = deployment.account_id, deployment.name.lower()
        meter = self._meters.setdefault(key, _Meter(now, _Bucket(), _Bucket()))
        seconds = max(0.0, (now - meter.at).total_seconds())
        meter.tokens.leak(token_limit, seconds)
        meter.requests.leak(request_limit, seconds)
        meter.at = now
        return meter

    def _forget_idle(self, now: datetime) -> None:
        # After a window all that fitted has leaked; what an oversized request still owes is forgiven.
        idle = [key for key, meter in self._meters.items() if (now - meter.at).total_seconds() > _WINDOW_SECONDS]
        for key in idle:
            del self._meters[key]


def _refusal(kind: str, wait: float, operation: str, version: str) -> TooManyRequests:
    return TooManyRequests(
        f"Requests to the {operation} Operation under Azure OpenAI API version {version} have exceeded {kind} rate "
        f"limit of your current OpenAI S0 pricing tier. Please retry after {math.ceil(wait)} seconds. Please go here: "
        "https://aka.ms/oai/quotaincrease if you would like to further increase the default rate limit.",
        retry_after=wait,
    )
