"""Applications, users, role assignments, device codes and refresh tokens."""

from __future__ import annotations

import builtins
import contextlib
import uuid
from datetime import UTC, datetime

import sqlalchemy as sa

from tailorbird.domain.access import (
    Assignment,
    DeviceCode,
    Grant,
    PrincipalKind,
    RefreshToken,
    ServicePrincipal,
    User,
)
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables.access import (
    device_codes,
    refresh_tokens,
    role_assignments,
    service_principals,
    users,
)
from tailorbird.service.ports import AlreadyThere

_APPS = ("app_id", "object_id", "name", "secret_digest")
_USER = ("object_id", "name", "password_digest", "created_at", "failures", "locked_until")
_ASSIGNMENTS = Rows(Assignment, role_assignments)
_GRANTS = Rows(Grant, role_assignments)
_CODES = Rows(DeviceCode, device_codes)
_REFRESH = Rows(RefreshToken, refresh_tokens)


class SqlIdentities:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    # --- applications -------------------------------------------------------------------------------------------------

    def add_service_principal(self, principal: ServicePrincipal) -> None:
        row = {name: getattr(principal, name) for name in _APPS}
        if not insert_new(self._connection, service_principals, row, ()):
            raise AlreadyThere(principal.app_id)
        for assignment in principal.assignments:
            self.add_assignment(principal.object_id, assignment)

    def service_principal(self, app_id: str) -> ServicePrincipal | None:
        """With what it may do: one query, as every request of a token's holder asks it."""
        held = role_assignments.c
        query = (
            sa.select(service_principals, held.role, held.scope)
            .outerjoin(role_assignments, held.object_id == service_principals.c.object_id)
            .where(service_principals.c.app_id == app_id)
            .order_by(held.seq)
        )
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return None
        assigned = tuple(Assignment(row["role"], row["scope"]) for row in rows if row["role"] is not None)
        return ServicePrincipal(**{name: rows[0][name] for name in _APPS}, assignments=assigned)

    def service_principals(self) -> list[ServicePrincipal]:
        query = sa.select(service_principals).order_by(service_principals.c.name, service_principals.c.app_id)
        return [ServicePrincipal(**row) for row in self._connection.execute(query).mappings()]

    def set_secret(self, app_id: str, digest: str) -> bool:
        chosen = service_principals.c.app_id == app_id
        return (
            self._connection.execute(sa.update(service_principals).where(chosen).values(secret_digest=digest)).rowcount
            > 0
        )

    def delete_service_principal(self, app_id: str) -> bool:
        found = self.service_principal(app_id)
        if found is None:
            return False
        self._forget_grants(found.object_id)
        self._connection.execute(sa.delete(service_principals).where(service_principals.c.app_id == app_id))
        return True

    # --- users --------------------------------------------------------------------------------------------------------

    def add_user(self, user: User) -> None:
        row = {**{name: getattr(user, name) for name in _USER}, "name_key": user.name.lower()}
        if not insert_new(self._connection, users, row, ()):
            raise AlreadyThere(user.name)

    def user(self, object_id: str) -> User | None:
        """With what they may do, in one query."""
        held = role_assignments.c
        query = (
            sa.select(users, held.role, held.scope)
            .outerjoin(role_assignments, held.object_id == users.c.object_id)
            .where(users.c.object_id == object_id)
            .order_by(held.seq)
        )
        rows = self._connection.execute(query).mappings().all()
        if not rows:
            return None
        assigned = tuple(Assignment(row["role"], row["scope"]) for row in rows if row["role"] is not None)
        return User(**{name: rows[0][name] for name in _USER}, assignments=assigned)

    def user_named(self, name: str) -> User | None:
        return next(iter(self._users(users.c.name_key == name.lower())), None)

    def users(self) -> list[User]:
        return self._users(sa.true())

    def save_user(self, user: User) -> None:
        values = {name: getattr(user, name) for name in ("password_digest", "failures", "locked_until")}
        self._connection.execute(sa.update(users).where(users.c.object_id == user.object_id).values(values))

    def delete_user(self, object_id: str) -> bool:
        self._forget_grants(object_id)
        self._connection.execute(sa.delete(refresh_tokens).where(refresh_tokens.c.object_id == object_id))
        return self._connection.execute(sa.delete(users).where(users.c.object_id == object_id)).rowcount > 0

    def _users(self, condition: sa.ColumnElement[bool]) -> builtins.list[User]:
        query = sa.select(*(users.c[name] for name in _USER)).where(condition).order_by(users.c.name_key)
        return [User(**row) for row in self._connection.execute(query).mappings()]

    # --- what they may do ---------------------------------------------------------------------------------------------

    def assignments(self, object_id: str) -> tuple[Assignment, ...]:
        held = role_assignments.c.object_id == object_id
        return tuple(_ASSIGNMENTS.all(self._connection, held, order=[role_assignments.c.seq]))

    def add_assignment(self, object_id: str, assignment: Assignment) -> None:
        # The id says all there is to say, so that the id taken is the same assignment.
        name = uuid.uuid5(uuid.NAMESPACE_OID, f"{object_id}/{assignment.role}/{_scope_key(assignment.scope)}")
        kind, now = PrincipalKind.SERVICE_PRINCIPAL, datetime.now(UTC)
        with contextlib.suppress(AlreadyThere):
            self.add_grant(Grant(str(name), object_id, assignment.role, assignment.scope, kind, now, ""))

    def add_grant(self, grant: Grant) -> bool:
        row = {**_GRANTS.values(grant), "scope_key": _scope_key(grant.scope)}
        if insert_new(self._connection, role_assignments, row, ()):
            return True
        if self.grant(grant.id) is not None:
            raise AlreadyThere(grant.id)
        return False

    def grant(self, grant_id: str) -> Grant | None:
        return _GRANTS.one(self._connection, role_assignments.c.id == grant_id)

    def grants(self, object_id: str | None = None) -> list[Grant]:
        """In the order they were made."""
        of = sa.true() if object_id is None else role_assignments.c.object_id == object_id
        return _GRANTS.all(self._connection, of, order=[role_assignments.c.seq])

    def delete_grant(self, grant_id: str) -> bool:
        chosen = role_assignments.c.id == grant_id
        return self._connection.execute(sa.delete(role_assignments).where(chosen)).rowcount > 0

    def _forget_grants(self, object_id: str) -> None:
        self._connection.execute(sa.delete(role_assignments).where(role_assignments.c.object_id == object_id))

    # --- logins -------------------------------------------------------------------------------------------------------

    def add_device_code(self, code: DeviceCode, now: datetime) -> bool:
        self._connection.execute(sa.delete(device_codes).where(device_codes.c.expires_at < now))
        return insert_new(self._connection, device_codes, _CODES.values(code), ())

    def device_code(self, digest: str) -> DeviceCode | None:
        return _CODES.one(self._connection, device_codes.c.digest == digest)

    def device_code_typed(self, user_code: str) -> DeviceCode | None:
        return _CODES.one(self._connection, device_codes.c.user_code == user_code)

    def save_device_code(self, code: DeviceCode) -> None:
        values = {"polled_at": code.polled_at, "object_id": code.object_id}
        self._connection.execute(sa.update(device_codes).where(device_codes.c.digest == code.digest).values(values))

    def take_device_code(self, digest: str) -> bool:
        return self._connection.execute(sa.delete(device_codes).where(device_codes.c.digest == digest)).rowcount > 0

    def add_refresh_token(self, token: RefreshToken, now: datetime) -> None:
        self._connection.execute(sa.delete(refresh_tokens).where(refresh_tokens.c.expires_at < now))
        self._connection.execute(sa.insert(refresh_tokens).values(_REFRESH.values(token)))

    def refresh_token(self, digest: str) -> RefreshToken | None:
        return _REFRESH.one(self._connection, refresh_tokens.c.digest == digest)

    def use_refresh_token(self, digest: str, now: datetime) -> None:
        unused = sa.and_(refresh_tokens.c.digest == digest, refresh_tokens.c.used_at.is_(None))
        self._connection.execute(sa.update(refresh_tokens).where(unused).values(used_at=now))

    def revoke_family(self, family: str) -> None:
        self._connection.execute(sa.delete(refresh_tokens).where(refresh_tokens.c.family == family))


def _scope_key(scope: str) -> str:
    """The same scope, however written: ARM ids are case-insensitive and may end in a slash."""
    return scope.rstrip("/").lower()
