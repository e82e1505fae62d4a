"""Logins: an application's secret, a person's password, a code typed on another device, a refresh token.

OAuth 2.0 (RFC 6749, 8628); a refusal's `code` is OAuth's error word, its text begins with Entra's number.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tailorbird.domain.access import DeviceCode, RefreshToken, ServicePrincipal, User
from tailorbird.domain.errors import InvalidRequest, ServiceError, Unauthenticated
from tailorbird.service.access.tokens import Token, Tokens, audience_of
from tailorbird.service.access.users import NO_PASSWORD, password_matches, secret_digest
from tailorbird.service.audit import Refusals
from tailorbird.service.ports import Clock, Store

POLL_SECONDS = 5
CODE_SECONDS = 900
MAX_FAILURES = 10
LOCK_SECONDS = 60
_REFRESH_DAYS = 90
# Two processes of one client may use the same token at the same moment; a thief comes later.
_REUSE_SECONDS = 60
# No vowels, so that no code is a word; no 0 and 1, which look like letters.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ23456789"
_CODE_LENGTH = 8


@dataclass(frozen=True, slots=True)
class Login:
    """A person's login: `identity` is the id token, `refresh` what gets the next token."""

    token: Token
    user: User
    identity: str
    refresh: str


@dataclass(frozen=True, slots=True)
class BegunLogin:
    """What a device shows its user: go to the page, type `user_code` there. `device_code` is the device's secret."""

    device_code: str
    user_code: str


class Logins:
    def __init__(
        self, store: Store, tokens: Tokens, clock: Clock, new_hex: Callable[[], str], refusals: Refusals
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._refusals = refusals
        self._clock = clock
        self._new_hex = new_hex

    def by_secret(self, client_id: str, client_secret: str, scopes: Sequence[str], *, authority: str) -> Token:
        """The client credentials grant. `scopes` are `<audience>/.default`; `authority` is our control plane's URL,
        itself an audience and part of the issuer. Raises Unauthenticated, InvalidRequest."""
        audience = audience_of(scopes, authority)
        with self._refusals.of_login(client_id):
            application = self._application(client_id, client_secret)
        return self._tokens.for_application(application, audience, authority)

    def by_password(self, client_id: str, name: str, password: str, scopes: Sequence[str], *, authority: str) -> Login:
        """The password grant. Raises InvalidRequest."""
        audience = audience_of(scopes, authority, delegated=True)
        with self._refusals.of_login(name):
            user = self._check_password(name, password)
        return self._login(user, client_id, audience, authority, self._new_hex())

    def begin_device(self, client_id: str, scopes: Sequence[str], *, authority: str) -> BegunLogin:
        """Raises InvalidRequest for scopes we do not serve."""
        audience = audience_of(scopes, authority, delegated=True)
        now = self._clock.now()
        expires = now + timedelta(seconds=CODE_SECONDS)
        while True:
            begun = BegunLogin(self._new_hex() + self._new_hex(), self._user_code())
            code = DeviceCode(secret_digest(begun.device_code), begun.user_code, client_id, audience, now, expires)
            with self._store.begin() as tx:
                if tx.identities.add_device_code(code, now):
                    return begun

    def by_device(self, client_id: str, device_code: str, *, authority: str) -> Login:
        """What a device asks every few seconds. Raises InvalidRequest; its code is authorization_pending until the user
        has signed in, slow_down for a device that asks too often."""
        digest, now = secret_digest(device_code), self._clock.now()
        with self._store.begin() as tx:
            code = tx.identities.device_code(digest)
            if code is not None:
                tx.identities.save_device_code(replace(code, polled_at=now))
        if code is None or code.client_id != client_id:
            raise _refusal(70018, "bad_verification_code", "The device code is not one of ours, or was used already.")
        if now >= code.expires_at:
            raise _refusal(70020, "expired_token", "The code has expired before anybody signed in. Begin again.")
        if code.object_id is None:
            # A second less than told: clocks and networks are not exact.
            if code.polled_at is not None and now - code.polled_at < timedelta(seconds=POLL_SECONDS - 1):
                raise _refusal(70016, "slow_down", f"Ask again in {POLL_SECONDS} seconds, not sooner.")
            raise _refusal(70016, "authorization_pending", "The user has not signed in yet. Ask again.")
        with self._store.begin() as tx:
            user = tx.identities.user(code.object_id) if tx.identities.take_device_code(digest) else None
        if user is None:
            raise _refusal(70018, "bad_verification_code", "The device code is not one of ours, or was used already.")
        return self._login(user, client_id, code.audience, authority, self._new_hex())

    def confirm_device(self, typed: str, name: str, password: str) -> None:
        """The user signs in for the device that shows this code. Raises InvalidRequest."""
        user_code = "".join(character for character in typed.upper() if character.isalnum())
        with self._refusals.of_login(name):
            user, now = self._check_password(name, password), self._clock.now()
        with self._store.begin() as tx:
            code = tx.identities.device_code_typed(user_code)
            if code is None or now >= code.expires_at or code.object_id is not None:
                raise _refusal(70018, "invalid_grant", "There is no login waiting for this code. Begin again.")
            tx.identities.save_device_code(replace(code, object_id=user.object_id))

    def by_refresh(self, client_id: str, refresh: str, scopes: Sequence[str], *, authority: str) -> Login:
        """A new token and a new refresh token for an old one, which ends. A used one that comes back later was stolen:
        everything that came from its login ends. Raises InvalidRequest."""
        audience = audience_of(scopes, authority, delegated=True)
        digest, now = secret_digest(refresh), self._clock.now()
        with self._store.begin() as tx:
            token = tx.identities.refresh_token(digest)
            user = None if token is None else tx.identities.user(token.object_id)
            good = token is not None and token.client_id == client_id and now < token.expires_at
            stolen = token is not None and _reused(token, now)
            if token is not None and stolen:
                tx.identities.revoke_family(token.family)
            elif good:
                tx.identities.use_refresh_token(digest, now)
        if token is None or user is None or not good or stolen:
            with self._refusals.of_login(client_id if user is None else user.name):
                raise _refusal(
                    70008, "invalid_grant", "The refresh token has expired, was revoked, or is not yours. Log in."
                )
        return self._login(user, client_id, audience, authority, token.family)

    def check_client(self, client_id: str, client_secret: str) -> None:
        """A client that shows a secret must be an application of ours. Raises Unauthenticated, InvalidRequest."""
        if not client_id:
            raise _refusal(900144, "invalid_request", "The request must contain client_id.", param="client_id")
        if client_secret:
            with self._refusals.of_login(client_id):
                self._application(client_id, client_secret)

    def _application(self, client_id: str, client_secret: str) -> ServicePrincipal:
        with self._store.begin() as tx:
            found = tx.identities.service_principal(client_id)
        if found is None:
            raise InvalidRequest(
                f"AADSTS700016: There is no application with the identifier '{client_id}' in the tenant "
                f"'{self._tokens.tenant_id}'. Check the client id, and that the request went to the right tenant.",
                param="client_id",
                code="unauthorized_client",
            )
        if not hmac.compare_digest(found.secret_digest, secret_digest(client_secret)):
            raise Unauthenticated(
                f"AADSTS7000215: The client secret given for application '{client_id}' is not valid. "
                "Send the secret itself, not its id.",
                param="client_secret",
                code="invalid_client",
            )
        return found

    def _check_password(self, name: str, password: str) -> User:
        now = self._clock.now()
        with self._store.begin() as tx:
            user = tx.identities.user_named(name)
        if user is not None and user.locked_until is not None and now < user.locked_until:
            raise _refusal(50053, "invalid_grant", "The user is locked after too many wrong passwords. Wait a minute.")
        # Outside the transaction: it takes its time, for unknown names too.
        right = password_matches(password, NO_PASSWORD if user is None else user.password_digest)
        if user is None or not right:
            if user is not None:
                self._count_failure(user, now)
            raise _refusal(50126, "invalid_grant", "The user name or password is wrong.")
        if user.failures:
            with self._store.begin() as tx:
                tx.identities.save_user(replace(user, failures=0, locked_until=None))
        return user

    def _count_failure(self, user: User, now: datetime) -> None:
        failures = user.failures + 1
        locked = now + timedelta(seconds=LOCK_SECONDS) if failures >= MAX_FAILURES else None
        with self._store.begin() as tx:
            counted = 0 if locked is not None else failures
            tx.identities.save_user(replace(user, failures=counted, locked_until=locked))

    def _login(self, user: User, client_id: str, audience: str, authority: str, family: str) -> Login:
        refresh, now = self._new_hex() + self._new_hex(), self._clock.now()
        kept = RefreshToken(
            secret_digest(refresh), family, user.object_id, client_id, now + timedelta(days=_REFRESH_DAYS)
        )
        with self._store.begin() as tx:
            tx.identities.add_refresh_token(kept, now)
        token = self._tokens.for_user(user, client_id, audience, authority)
        return Login(token, user, self._tokens.identity(user, client_id, authority), refresh)

    def _user_code(self) -> str:
        number, letters = int(self._new_hex(), 16), ""
        for _ in range(_CODE_LENGTH):
            number, place = divmod(number, len(_LETTERS))
            letters += _LETTERS[place]
        return letters


def _reused(token: RefreshToken, now: datetime) -> bool:
    return token.used_at is not None and now - token.used_at > timedelta(seconds=_REUSE_SECONDS)


def _refusal(number: int, word: str, text: str, param: str | None = None) -> ServiceError:
    return InvalidRequest(f"AADSTS{number}: {text}", param=param, code=word)
