"""Tokens of this installation: signed, verified, and the audiences they are for.

Tokens are RS256 JWTs in the claims of Microsoft Entra ID; texts and codes of refusals (AADSTS numbers) follow
https://learn.microsoft.com/entra/identity-platform/reference-error-codes in our own words.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tailorbird.domain.access import ServicePrincipal, User
from tailorbird.domain.errors import InvalidRequest, InvalidToken
from tailorbird.service.ports import Clock, Store

INVALID_TOKEN = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect "
    "(https://cognitiveservices.azure.com), or have expired."
)
_AUDIENCES = frozenset(
    {
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://cognitiveservices.azure.com",
        "https://ai.azure.com",
    }
)
_OIDC_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
_SIGNING_KEY = "token-signing-key"
_TENANT = "tenant-id"


@dataclass(frozen=True, slots=True)
class Token:
    """A signed token for `audience`, valid for `expires_in` seconds from `issued_at`."""

    access_token: str
    audience: str
    issued_at: datetime
    expires_in: int


@dataclass(frozen=True, slots=True)
class _SigningKey:
    private: rsa.RSAPrivateKey
    jwk: dict[str, str]


class Tokens:
    def __init__(self, store: Store, clock: Clock, new_hex: Callable[[], str], lifetime_seconds: int) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex
        self._lifetime = lifetime_seconds
        self._signing: _SigningKey | None = None
        self._tenant: str | None = None

    @property
    def tenant_id(self) -> str:
        """The one tenant of this installation."""
        if self._tenant is None:
            with self._store.begin() as tx:
                made = str(uuid.UUID(hex=self._new_hex(), version=4))
                self._tenant = tx.accounts.add_secret(_TENANT, made)
        return self._tenant

    def for_application(self, who: ServicePrincipal, audience: str, authority: str) -> Token:
        claims = {"appid": who.app_id, "appidacr": "1", "idtyp": "app", "oid": who.object_id, "sub": who.object_id}
        return self._token(claims, audience, authority)

    def for_user(self, who: User, client_id: str, audience: str, authority: str) -> Token:
        """For a person at a client program, which is public: it has no secret of its own."""
        claims = {
            **_person(who),
            "appid": client_id,
            "appidacr": "0",
            "idtyp": "user",
            "scp": "user_impersonation",
            "unique_name": who.name,
        }
        return self._token(claims, audience, authority)

    def identity(self, who: User, client_id: str, authority: str) -> str:
        """What tells the client program who signed in; it opens nothing."""
        return self._sign({**_person(who), "preferred_username": who.name, "ver": "2.0"}, client_id, authority)

    def claims(self, token: str) -> dict[str, Any]:
        """Raises InvalidToken when it is not ours, damaged, not for us or not good at this time."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key().private.public_key(),
                algorithms=["RS256"],
                options={
                    "require": ["aud", "iss", "exp", "nbf", "appid", "oid", "tid"],
                    # Time is our clock's, and a token has one audience out of several: both are judged below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.InvalidTokenError:
            raise InvalidToken(INVALID_TOKEN) from None
        authority = str(claims["iss"]).removesuffix(f"/{self.tenant_id}/")
        for_us = _is_audience(str(claims["aud"]), authority) and claims["tid"] == self.tenant_id
        if not for_us or not in_time(claims, self._clock.now()):
            raise InvalidToken(INVALID_TOKEN)
        return claims

    def public_jwks(self) -> dict[str, list[dict[str, str]]]:
        """The key set outsiders verify our tokens with (RFC 7517)."""
        return {"keys": [self._key().jwk]}

    def _token(self, claims: dict[str, Any], audience: str, authority: str) -> Token:
        extra = {"ver": "1.0", "uti": self._new_hex()}
        return Token(self._sign({**claims, **extra}, audience, authority), audience, self._clock.now(), self._lifetime)

    def _sign(self, claims: dict[str, Any], audience: str, authority: str) -> str:
        key, at = self._key(), int(self._clock.now().timestamp())
        times = {"iat": at, "nbf": at, "exp": at + self._lifetime}
        issuer = f"{authority.rstrip('/')}/{self.tenant_id}/"
        whole = {"aud": audience, "iss": issuer, **times, **claims, "tid": self.tenant_id}
        return jwt.encode(whole, key.private, algorithm="RS256", headers={"kid": key.jwk["kid"]})

    def _key(self) -> _SigningKey:
        if self._signing is None:
            with self._store.begin() as tx:
                pem = tx.accounts.secret(_SIGNING_KEY)
            if pem is None:
                made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
                text = made.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
                with self._store.begin() as tx:
                    # Whoever was first: every server of the installation signs with the same key.
                    pem = tx.accounts.add_secret(_SIGNING_KEY, text.decode())
            private = serialization.load_pem_private_key(pem.encode(), password=None)
            if not isinstance(private, rsa.RSAPrivateKey):
                raise TypeError("the token signing key in the database is not an RSA key")
            self._signing = _SigningKey(private, _jwk(private.public_key()))
        return self._signing


def audience_of(scopes: Sequence[str], authority: str, *, delegated: bool = False) -> str:
    """The one audience these scopes ask for. `delegated` is a person's login, which may name user_impersonation.

    Raises InvalidRequest whose `code` is OAuth's error word."""
    asked = [scope for scope in scopes if scope not in _OIDC_SCOPES]
    endings = ("/.default", "/user_impersonation") if delegated else ("/.default",)
    ending = next((end for end in endings if len(asked) == 1 and asked[0].endswith(end)), None)
    if ending is None:
        raise InvalidRequest(
            f"AADSTS70011: The scope '{' '.join(scopes)}' is not valid. Ask for exactly one, of the form "
            "https://cognitiveservices.azure.com/.default.",
            param="scope",
            code="invalid_scope",
        )
    audience = asked[0].removesuffix(ending)
    if not _is_audience(audience, authority):
        raise InvalidRequest(
            f"AADSTS500011: The resource principal named '{audience}' was not found. Tokens are issued for "
            f"{', '.join([authority, *sorted(_AUDIENCES)])}.",
            param="scope",
            code="invalid_resource",
        )
    return audience


def in_time(claims: dict[str, Any], now: datetime) -> bool:
    """Whether `now` lies in the token's time. `nbf` may be missing; both are whole or broken seconds."""
    begin, end = claims.get("nbf", 0), claims.get("exp")
    if not isinstance(begin, int | float) or not isinstance(end, int | float):
        return False
    return begin <= now.timestamp() < end


def _person(who: User) -> dict[str, Any]:
    return {"oid": who.object_id, "sub": who.object_id, "upn": who.name, "name": who.name}


def _is_audience(audience: str, authority: str) -> bool:
    # Clients ask with and without a trailing slash, az for `https://host//.default`; URLs of hosts ignore case.
    plain = audience.rstrip("/").lower()
    return plain in _AUDIENCES or plain == authority.rstrip("/").lower()


def _jwk(public: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = public.public_numbers()
    required = {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}
    # The key id is its thumbprint (RFC 7638): the digest of the required members, sorted, without spaces.
    thumbprint = hashlib.sha256(json.dumps(required, separators=(",", ":"), sort_keys=True).encode()).digest()
    kid = base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()
    return {**required, "use": "sig", "alg": "RS256", "kid": kid}


def _base64url(number: int) -> str:
    size = (number.bit_length() + 7) // 8
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()
