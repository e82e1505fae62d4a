"""Who there is: people with passwords and applications with secrets."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Callable
from dataclasses import replace

from tailorbird.domain.access import ServicePrincipal, User
from tailorbird.domain.audit import HERE, Act
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound
from tailorbird.service.audit import record
from tailorbird.service.ports import AlreadyThere, Clock, Session, Store

MIN_PASSWORD = 8
# Costs about 40 ms and 16 MB a guess (RFC 7914's parameters for interactive logins).
_N, _R, _P = 2**14, 8, 1
NO_PASSWORD = f"scrypt${_N}${_R}${_P}${'0' * 32}${'0' * 128}"
"""Matches no password, and takes as long as any other to say so."""


class Users:
    def __init__(self, store: Store, clock: Clock, new_hex: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex

    # --- people -------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, password: str) -> User:
        """Raises InvalidRequest for a name or password that will not do, Conflict when the name is taken."""
        if not name or any(character.isspace() for character in name):
            raise InvalidRequest(f"'{name}' is not a user name; use one without spaces, as anna@example.org.")
        user = User(self._new_uuid(), name, self._digest(password), self._clock.now())
        try:
            with self._store.begin() as tx:
                tx.identities.add_user(user)
                self._record(tx, Act.WRITE_USER, f"users/{name}", "added")
        except AlreadyThere:
            raise Conflict(
                f"There is a user '{name}' already; give them a new password, or take another name."
            ) from None
        return user

    def set_password(self, name: str, password: str) -> None:
        """Raises NotFound, InvalidRequest. It opens the account of a user who was locked out."""
        digest = self._digest(password)
        with self._store.begin() as tx:
            user = tx.identities.user_named(name)
            if user is None:
                raise NotFound(f"There is no user '{name}'.")
            tx.identities.save_user(replace(user, password_digest=digest, failures=0, locked_until=None))
            self._record(tx, Act.WRITE_USER, f"users/{user.name}", "given a new password")

    def delete_user(self, name: str) -> None:
        """With roles and logins; tokens already out stop working too. Raises NotFound."""
        with self._store.begin() as tx:
            user = tx.identities.user_named(name)
            if user is None or not tx.identities.delete_user(user.object_id):
                raise NotFound(f"There is no user '{name}'.")
            self._record(tx, Act.DELETE_USER, f"users/{user.name}")

    def users(self) -> list[User]:
        with self._store.begin() as tx:
            return tx.identities.users()

    # --- applications -------------------------------------------------------------------------------------------------

    def add_application(self, name: str) -> tuple[ServicePrincipal, str]:
        """The application, and its secret, which is told this once. Raises InvalidRequest."""
        if not name.strip():
            raise InvalidRequest("An application needs a name.")
        secret = new_secret(self._new_hex)
        made = ServicePrincipal(self._new_uuid(), self._new_uuid(), name.strip(), secret_digest(secret))
        with self._store.begin() as tx:
            tx.identities.add_service_principal(made)
            self._record(tx, Act.WRITE_APPLICATION, f"applications/{made.app_id}", f"added as {made.name}")
        return made, secret

    def reset_secret(self, app_id: str) -> str:
        """A new secret for this application; the old one stops working. Raises NotFound."""
        secret = new_secret(self._new_hex)
        with self._store.begin() as tx:
            if not tx.identities.set_secret(app_id, secret_digest(secret)):
                raise NotFound(f"There is no application with the id {app_id!r}.")
            self._record(tx, Act.WRITE_APPLICATION, f"applications/{app_id}", "given a new secret")
        return secret

    def delete_application(self, app_id: str) -> None:
        """With its roles; tokens already out stop working too. Raises NotFound."""
        with self._store.begin() as tx:
            if not tx.identities.delete_service_principal(app_id):
                raise NotFound(f"There is no application with the id {app_id!r}.")
            self._record(tx, Act.DELETE_APPLICATION, f"applications/{app_id}")

    def applications(self) -> list[ServicePrincipal]:
        with self._store.begin() as tx:
            return tx.identities.service_principals()

    def _record(self, tx: Session, act: Act, below: str, detail: str = "") -> None:
        record(tx, self._clock.now(), act, f"{HERE}/{below}", detail)

    def _digest(self, password: str) -> str:
        if len(password) < MIN_PASSWORD:
            raise InvalidRequest(f"The password is too short; use at least {MIN_PASSWORD} characters.")
        return password_digest(password, bytes.fromhex(self._new_hex()))

    def _new_uuid(self) -> str:
        return str(uuid.UUID(hex=self._new_hex(), version=4))


def password_digest(password: str, salt: bytes) -> str:
    made = hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${made.hex()}"


def password_matches(password: str, digest: str) -> bool:
    """Takes the same time whatever the answer."""
    _, n, r, p, salt, kept = digest.split("$")
    made = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(made.hex(), kept)


def new_secret(new_hex: Callable[[], str]) -> str:
    """40 characters, as Entra's generated secrets have; two draws, because one is 32."""
    return (new_hex() + new_hex())[:40]


def secret_digest(secret: str) -> str:
    # A secret is 160 random bits: a plain hash cannot be turned back, a slow one would protect nothing more.
    return hashlib.sha256(secret.encode()).hexdigest()
