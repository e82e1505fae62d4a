"""Tokens of outside issuers: an OpenID Connect provider the operator trusts, as Entra ID or Keycloak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from tailorbird.domain.errors import InvalidToken
from tailorbird.service.access.tokens import INVALID_TOKEN, in_time
from tailorbird.service.ports import Clock, IssuerKeys

# Signatures by key pairs only: a shared secret would make every verifier a signer.
_ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}


@dataclass(frozen=True, slots=True)
class Issuer:
    """Tokens whose `iss` is `url` are taken when they are meant for `audience`."""

    url: str
    audience: str


@dataclass(frozen=True, slots=True)
class Outsider:
    """Whom an outside token names: `id` is what roles are assigned to."""

    id: str
    name: str


class OutsideTokens:
    def __init__(self, issuers: Sequence[Issuer], keys: IssuerKeys, clock: Clock) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._keys = keys
        self._clock = clock

    def issuer_of(self, token: str) -> Issuer | None:
        """The trusted issuer the token says it is from; nothing of it is verified yet."""
        if not self._issuers:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return None
        issuer = claims.get("iss")
        return self._issuers.get(issuer) if isinstance(issuer, str) else None

    def verify(self, token: str, issuer: Issuer) -> Outsider:
        """Raises InvalidToken."""
        claims = self._claims(token, issuer)
        audience: Any = claims["aud"]
        meant = audience == issuer.audience or (isinstance(audience, list) and issuer.audience in audience)
        if not meant or claims["iss"] != issuer.url or not in_time(claims, self._clock.now()):
            raise InvalidToken(INVALID_TOKEN)
        holder = claims.get("oid") or claims.get("sub")
        if not isinstance(holder, str):
            raise InvalidToken(INVALID_TOKEN)
        names = (claims.get(word) for word in ("preferred_username", "upn", "name", "azp", "appid"))
        return Outsider(holder, next((name for name in names if isinstance(name, str)), holder))

    def _claims(self, token: str, issuer: Issuer) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            kind = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
            if kind is None or algorithm is None or not isinstance(key_id, str):
                raise InvalidToken(INVALID_TOKEN)
            jwk = self._keys.key(issuer.url, key_id)
            # The header says how it was signed; the key must be one of that kind.
            if jwk is None or jwk.get("kty") != kind or jwk.get("use", "sig") != "sig":
                raise InvalidToken(INVALID_TOKEN)
            return jwt.decode(
                token,
                jwt.PyJWK(dict(jwk), algorithm=algorithm),
                algorithms=[algorithm],
                options={
                    "require": ["aud", "iss", "exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except jwt.PyJWTError:
            raise InvalidToken(INVALID_TOKEN) from None
