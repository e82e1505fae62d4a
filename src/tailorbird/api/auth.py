"""Who calls: an api-key first, then a Bearer value that may be a key or a token; and whether they may."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from tailorbird.api.context import Given, Spoken
from tailorbird.api.dialects import Family
from tailorbird.domain.access import Account, Action
from tailorbird.domain.errors import Unauthenticated
from tailorbird.service.access import Access

ACCOUNT_HEADER = "x-tailorbird-account"
"""Which account a token's holder means, when it may use several."""

_AZURE_REFUSAL = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an "
    "active subscription and use a correct regional API endpoint for your resource."
)
_OPENAI_MISSING = (
    "You didn't provide an API key. Send it in an Authorization header with Bearer auth "
    "(Authorization: Bearer YOUR_KEY)."
)


def allow(action: Action) -> Callable[..., Account]:
    """A dependency: the account the caller acts on. Raises Unauthenticated, InvalidToken, PermissionDenied."""

    def check(request: Request, services: Given, dialect: Spoken) -> Account:
        # Old SDKs send the key in both headers, so the one that can only be a key decides.
        key, bearer = request.headers.get("api-key"), _bearer(request.headers.get("authorization"))
        found = services.access.by_key(key or bearer) if key or bearer else None
        if found is None:
            if key or not bearer or not _looks_like_token(bearer):
                raise _refusal(dialect.family, key or bearer)
            return _account_of_token(services.access, bearer, request.headers.get(ACCOUNT_HEADER), action)
        principal, account = found
        services.access.authorize(principal, action, account)
        return account

    return check


def _account_of_token(access: Access, token: str, wanted: str | None, action: Action) -> Account:
    principal = access.by_token(token)
    account = access.default_account(principal, wanted)
    access.authorize(principal, action, account)
    return account


def _bearer(header: str | None) -> str:
    scheme, _, value = (header or "").strip().partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _looks_like_token(value: str) -> bool:
    # A JWT has three parts between dots; keys have none.
    return value.count(".") == 2


def _refusal(family: Family, given: str) -> Unauthenticated:
    if family is Family.OPENAI:
        if not given:
            return Unauthenticated(_OPENAI_MISSING)
        return Unauthenticated(f"Incorrect API key provided: {_masked(given)}. Use one of the account's two keys.")
    return Unauthenticated(_AZURE_REFUSAL)


def _masked(key: str) -> str:
    return f"{key[:3]}***{key[-4:]}" if len(key) > 12 else "***"
