"""What is known of deployments, when they end, and what a new one may be called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tailorbird.studio.visit import Visit
from tailorbird.studio.words import Words

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DEVELOPER = "DeveloperTier"
_CHECKPOINT = ":ckpt-step-"
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Facts:
    """Times are seconds since 1970, None where they are unknown or there is none; so are the two rates.

    `hour` is the price of an hour, `None` where nobody told it."""

    name: str
    model: str
    state: str
    sku: str
    capacity: int
    version: str = "1"
    base_model: str = ""
    fine_tuned: bool = False
    paused: bool = False
    error: str = ""
    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    hour: Decimal | None = None
    currency: str = ""
    created_at: int | None = None
    created_by: str = ""
    last_used_at: int | None = None
    expires_at: int | None = None
    expires_because: str = ""

    @property
    def is_ready(self) -> bool:
        return self.state == "Succeeded" and not self.paused

    @property
    def is_moving(self) -> bool:
        """Whether its state will change by itself soon."""
        return self.state in ("Creating", "Deleting")

    @property
    def shown_state(self) -> str:
        return "Paused" if self.paused and self.state == "Succeeded" else self.state

    @property
    def tuned_model(self) -> str:
        """The fine-tuned model, also where an earlier checkpoint of it is served."""
        return self.model.split(_CHECKPOINT, 1)[0]


async def load(visit: Visit, seconds: float = 2.0) -> list[Facts]:
    """Whatever the person may see, newest answers shared for some seconds. Raises Refused."""
    return [facts_of(row) for row in (await visit.api.fresh("/deployments", seconds, plane="own"))["data"]]


def time_left(t: Words, facts: Facts, now: float) -> str:
    """When the clock deletes it, in words; empty when it does not."""
    if facts.expires_at is None or facts.state == "Deleting":
        return ""
    left = max(0.0, facts.expires_at - now)
    days, hours = int(left // _DAY), int(left % _DAY // 3600)
    span = t("deployments.days_hours", days=days, hours=hours) if days else t.duration(left)
    if facts.expires_because == "developer_tier":
        return t("deployments.ends_developer", span=span)
    return t("deployments.ends_idle", span=span)


def is_near(facts: Facts, now: float) -> bool:
    """Whether it ends within a day (of the developer tier: within three hours), so that somebody should act."""
    if facts.expires_at is None:
        return False
    return facts.expires_at - now < (3 * 3600 if facts.expires_because == "developer_tier" else _DAY)


def short(model: str) -> str:
    """A fine-tuned model's name with its 32 digits cut: base, job and suffix still tell it apart."""
    return re.sub(r"(\.ft-[0-9a-f]{8})[0-9a-f]{24}", r"\1…", model)


def suggested_name(model: str, taken: Sequence[str]) -> str:
    """A name the service takes and nobody has: a fine-tuned model's suffix, else the model's own name."""
    plain = model.split(_CHECKPOINT, 1)
    base, _, rest = plain[0].partition(".ft-")
    suffix = rest.partition("-")[2]
    words = suffix or (f"{base}-tuned" if rest else base)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", words).lstrip("._-")[:56] or "deployment"
    if len(plain) > 1:
        name += f"-step{plain[1]}"[: 64 - len(name)]
    used = {one.lower() for one in taken}
    number, found = 2, name
    while found.lower() in used:
        found, number = f"{name}-{number}", number + 1
    return found


def facts_of(row: Mapping[str, Any]) -> Facts:
    """A row of `GET /tailorbird/v1/deployments`."""
    price: Mapping[str, Any] = row.get("price") or {}
    return Facts(
        name=str(row["id"]),
        model=str(row["model"]),
        state=str(row["status"]),
        sku=str(row["sku"]),
        capacity=int(row["capacity"]),
        version=str(row["model_version"] or "1"),
        base_model=str(row["base_model"]),
        fine_tuned=bool(row["fine_tuned"]),
        paused=bool(row["paused"]),
        error=str(row.get("error") or ""),
        tokens_per_minute=row.get("tokens_per_minute"),
        requests_per_minute=row.get("requests_per_minute"),
        hour=Decimal(str(price["hour"])) if "hour" in price else None,
        currency=str(price.get("currency", "")),
        created_at=row.get("created_at"),
        created_by=str(row["created_by"]),
        last_used_at=row.get("last_used_at"),
        expires_at=row.get("expires_at"),
        expires_because=str(row.get("expires_because") or ""),
    )
