"""Keys of an issuer: found by discovery, remembered, fetched again for a new key, and not too often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tailorbird.infra.oidc import HttpIssuerKeys

ISSUER = "https://login.example/t/"


@dataclass
class FakeIssuer:
    keys: list[Any] = field(default_factory=lambda: [{"kid": "a", "kty": "RSA"}])
    claims_to_be: str = ISSUER
    down: bool = False
    asked: list[str] = field(default_factory=list[str])
    seconds: float = 0.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.down:
            raise httpx.ConnectError("down")
        if request.url.path == "/t/.well-known/openid-configuration":
            return httpx.Response(200, json={"issuer": self.claims_to_be, "jwks_uri": "https://login.example/keys"})
        return httpx.Response(200, json={"keys": self.keys})


@pytest.fixture
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture
def found(issuer: FakeIssuer) -> Iterator[HttpIssuerKeys]:
    with httpx.Client(transport=httpx.MockTransport(issuer.answer)) as client:
        yield HttpIssuerKeys(client, lambda: issuer.seconds)


def test_keys_are_fetched_once_and_remembered(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    assert [found.key(ISSUER, "a") for _ in range(3)] == [{"kid": "a", "kty": "RSA"}] * 3
    assert issuer.asked == ["/t/.well-known/openid-configuration", "/keys"]


def test_a_new_key_is_found_after_a_pause_and_the_old_one_goes(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    found.key(ISSUER, "a")
    issuer.keys = [{"kid": "b"}]
    assert found.key(ISSUER, "b") is None
    issuer.seconds = 61
    assert found.key(ISSUER, "b") == {"kid": "b"}
    assert found.key(ISSUER, "a") is None


def test_made_up_key_ids_are_not_made_requests(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    for number in range(50):
        assert found.key(ISSUER, f"made-up-{number}") is None
    assert len(issuer.asked) == 2


def test_keys_stay_good_while_the_issuer_is_away(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    found.key(ISSUER, "a")
    issuer.down, issuer.seconds = True, 4000
    assert found.key(ISSUER, "a") == {"kid": "a", "kty": "RSA"}
    assert len(issuer.asked) == 3


def test_an_issuer_that_was_away_at_first_is_asked_again(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    issuer.down = True
    assert found.key(ISSUER, "a") is None
    issuer.down, issuer.seconds = False, 61
    assert found.key(ISSUER, "a") is not None


def test_a_document_of_somebody_else_gives_no_keys(issuer: FakeIssuer, found: HttpIssuerKeys) -> None:
    issuer.claims_to_be = "https://evil.example"
    assert found.key(ISSUER, "a") is None
    assert "/keys" not in issuer.asked


@pytest.mark.parametrize("keys", [[], [5, "x", {"kty": "RSA"}, {"kid": 7}]])
def test_a_key_set_without_usable_keys_is_empty(issuer: FakeIssuer, found: HttpIssuerKeys, keys: list[Any]) -> None:
    issuer.keys = keys
    assert found.key(ISSUER, "a") is None
