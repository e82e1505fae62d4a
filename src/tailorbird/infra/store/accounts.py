"""Accounts, service principals, role assignments and the installation's own secrets."""

from __future__ import annotations

import builtins
from dataclasses import replace

import sqlalchemy as sa

from tailorbird.domain.access import Account, Assignment, ServicePrincipal
from tailorbird.infra.schema import accounts, role_assignments, secrets, service_principals
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.service.ports import AlreadyThere

_ACCOUNTS = Rows(Account, accounts)
_ASSIGNMENTS = Rows(Assignment, role_assignments)


class SqlAccounts:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, account: Account) -> None:
        keys = {
            "subscription_key": account.subscription_id.lower(),
            "resource_key": _resource_key(account.subscription_id, account.resource_group, account.name),
        }
        if not insert_new(self._connection, accounts, {**_ACCOUNTS.values(account), **keys}, ()):
            raise AlreadyThere(account.resource_id)

    def get(self, account_id: str) -> Account | None:
        return _ACCOUNTS.one(self._connection, accounts.c.id == account_id)

    def by_key(self, key: str) -> Account | None:
        holds = sa.or_(accounts.c.key1 == key, accounts.c.key2 == key)
        return next(iter(_ACCOUNTS.all(self._connection, holds, order=[accounts.c.seq])), None)

    def by_name(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        wanted = _resource_key(subscription_id, resource_group, name)
        return _ACCOUNTS.one(self._connection, accounts.c.resource_key == wanted)

    def list(self, subscription_id: str | None = None) -> builtins.list[Account]:
        """In the order they were added; subscriptions compare case-insensitively too."""
        within = sa.true() if subscription_id is None else accounts.c.subscription_key == subscription_id.lower()
        return _ACCOUNTS.all(self._connection, within, order=[accounts.c.seq])

    def add_service_principal(self, principal: ServicePrincipal) -> None:
        """Raises AlreadyThere when the app id is taken."""
        row = {
            "app_id": principal.app_id,
            "object_id": principal.object_id,
            "name": principal.name,
            "secret_digest": principal.secret_digest,
        }
        if not insert_new(self._connection, service_principals, row, ()):
            raise AlreadyThere(principal.app_id)
        for assignment in principal.assignments:
            self.add_assignment(principal.object_id, assignment)

    def service_principal(self, app_id: str) -> ServicePrincipal | None:
        query = sa.select(service_principals).where(service_principals.c.app_id == app_id)
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            return None
        principal = ServicePrincipal(**row)
        held = role_assignments.c.object_id == principal.object_id
        assigned = _ASSIGNMENTS.all(self._connection, held, order=[role_assignments.c.seq])
        return replace(principal, assignments=tuple(assigned))

    def add_assignment(self, object_id: str, assignment: Assignment) -> None:
        # The same scope, however written: ARM ids are case-insensitive and may end in a slash.
        scope_key = assignment.scope.rstrip("/").lower()
        row = {"object_id": object_id, "scope_key": scope_key, **_ASSIGNMENTS.values(assignment)}
        insert_new(self._connection, role_assignments, row, ("object_id", "role", "scope_key"))

    def secret(self, name: str) -> str | None:
        return self._connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar_one_or_none()

    def add_secret(self, name: str, value: str) -> str:
        insert_new(self._connection, secrets, {"name": name, "value": value}, ("name",))
        kept = self.secret(name)
        assert kept is not None  # nothing deletes secrets
        return kept


def _resource_key(subscription_id: str, resource_group: str, name: str) -> str:
    """None of the three may hold a slash, so the join is unique."""
    return f"{subscription_id}/{resource_group}/{name}".lower()
