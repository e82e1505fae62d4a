"""Who calls: an api-key first, then a Bearer value that may be a key or a token; and whether they may."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from tailorbird.api.context import Given, Services, Spoken
from tailorbird.api.dialects import Dialect, Family
from tailorbird.domain.access import Account, Action, Principal
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
        endpoint: str | None = request.state.account
        found = _found(request, services, dialect)
        if isinstance(found, str):
            wanted = endpoint or request.headers.get(ACCOUNT_HEADER)
            return _account_of_token(services.access, found, wanted, action)
        principal, account = found
        if endpoint is not None and endpoint.lower() != (account.sub_domain or account.name.lower()):
            # A good key at another account's endpoint is a wrong key there.
            raise _refusal(dialect.family, _given(request))
        services.access.authorize(principal, action, account)
        return account

    return check


def who_asks(request: Request, services: Given, dialect: Spoken) -> Principal:
    """A dependency: the holder of the key or token. Raises Unauthenticated, InvalidToken."""
    found = _found(request, services, dialect)
    return services.access.by_token(found) if isinstance(found, str) else found[0]


def _found(request: Request, services: Services, dialect: Dialect) -> tuple[Principal, Account] | str:
    """The key's holder and account, or the token that was sent instead of a key. Raises Unauthenticated."""
    # Old SDKs send the key in both headers, so the one that can only be a key decides.
    key, bearer = request.headers.get("api-key"), _bearer(request.headers.get("authorization"))
    given = _given(request)
    found = services.access.by_key(given) if given else None
    if found is None and (key or not bearer or not _looks_like_token(bearer)):
        raise _refusal(dialect.family, given)
    return found or bearer


def _given(request: Request) -> str:
    return request.headers.get("api-key") or _bearer(request.headers.get("authorization"))


def _account_of_token(access: Access, token: str, wanted: str | None, action: Action) -> Account:
    return access.default_account(access.by_token(token), action, wanted)


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
