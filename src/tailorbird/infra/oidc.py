"""Public keys of outside issuers: OpenID Connect discovery and key sets over HTTP, remembered for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, cast

import httpx

log = logging.getLogger(__name__)

_FRESH_SECONDS = 3600.0
# An unknown key id may be a new key; tokens with made-up ids must not become requests to the issuer.
_PAUSE_SECONDS = 60.0
_TIMEOUT = httpx.Timeout(5.0)
_MAX_BYTES = 1_000_000


@dataclass
class _KeySet:
    keys: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    fetched_at: float | None = None
    asked_at: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class HttpIssuerKeys:
    """`seconds` is a clock that only moves forward."""

    def __init__(self, client: httpx.Client | None = None, seconds: Callable[[], float] = monotonic) -> None:
        self._client = client or httpx.Client(timeout=_TIMEOUT, follow_redirects=False)
        self._seconds = seconds
        self._sets: dict[str, _KeySet] = {}
        self._lock = threading.Lock()

    def key(self, issuer: str, key_id: str) -> Mapping[str, Any] | None:
        with self._lock:
            known = self._sets.setdefault(issuer, _KeySet())
        if self._wants_fetching(known, key_id):
            # One asks, the others wait for its answer.
            with known.lock:
                if self._wants_fetching(known, key_id):
                    self._refresh(issuer, known)
        return known.keys.get(key_id)

    def _wants_fetching(self, known: _KeySet, key_id: str) -> bool:
        now = self._seconds()
        if known.asked_at is not None and now - known.asked_at < _PAUSE_SECONDS:
            return False
        stale = known.fetched_at is None or now - known.fetched_at > _FRESH_SECONDS
        return stale or key_id not in known.keys

    def _refresh(self, issuer: str, known: _KeySet) -> None:
        known.asked_at = self._seconds()
        try:
            known.keys = self._fetch(issuer)
            known.fetched_at = self._seconds()
        except (httpx.HTTPError, ValueError) as error:
            # The keys from before stay good: an issuer that is away for a moment locks nobody out.
            log.warning("keys of an issuer could not be fetched", extra={"issuer": issuer, "reason": str(error)})

    def _fetch(self, issuer: str) -> dict[str, Mapping[str, Any]]:
        document = self._json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if document.get("issuer") != issuer:
            raise ValueError(f"its discovery document is of {document.get('issuer')!r}")
        address = document.get("jwks_uri")
        if not isinstance(address, str):
            raise ValueError("its discovery document names no jwks_uri")
        listed = self._json(address).get("keys")
        keys = cast("list[Any]", listed) if isinstance(listed, list) else []
        found = [cast("dict[str, Any]", key) for key in keys if isinstance(key, dict)]
        return {key["kid"]: key for key in found if isinstance(key.get("kid"), str)}

    def _json(self, address: str) -> dict[str, Any]:
        answer = self._client.get(address)
        answer.raise_for_status()
        if len(answer.content) > _MAX_BYTES:
            raise ValueError(f"{address} answered with {len(answer.content)} bytes")
        body = answer.json()
        if not isinstance(body, dict):
            raise ValueError(f"{address} answered with no JSON object")
        return cast("dict[str, Any]", body)
