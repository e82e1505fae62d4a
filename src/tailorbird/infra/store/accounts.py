"""Accounts, resource groups and the installation's own secrets."""

from __future__ import annotations

import builtins

import sqlalchemy as sa

from tailorbird.domain.access import Account, ResourceGroup
from tailorbird.infra.store.rows import Rows, insert_new
from tailorbird.infra.tables import metadata
from tailorbird.infra.tables.access import accounts, resource_groups, secrets
from tailorbird.service.ports import AlreadyThere

_ACCOUNTS = Rows(Account, accounts)
_GROUPS = Rows(ResourceGroup, resource_groups)
_ALIVE = accounts.c.deleted_at.is_(None)
_CHANGES = ("location", "kind", "key1", "key2", "sub_domain", "tags", "deleted_at")


class SqlAccounts:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, account: Account) -> None:
        group = ResourceGroup(account.subscription_id, account.resource_group, account.location, account.created_at, {})
        self._insert_group(group)
        keys = {
            "subscription_key": account.subscription_id.lower(),
            "resource_key": _key(account.subscription_id, account.resource_group, account.name),
            "sub_domain": account.sub_domain.lower(),
        }
        if not insert_new(self._connection, accounts, {**_ACCOUNTS.values(account), **keys}, ()):
            raise AlreadyThere(account.resource_id)

    def save(self, account: Account) -> None:
        taken = sa.select(accounts.c.seq).where(accounts.c.sub_domain == account.sub_domain.lower())
        if account.sub_domain and self._connection.execute(taken.where(accounts.c.id != account.id)).first():
            raise AlreadyThere(account.sub_domain)
        values = {name: getattr(account, name) for name in _CHANGES} | {"sub_domain": account.sub_domain.lower()}
        self._connection.execute(sa.update(accounts).where(accounts.c.id == account.id).values(values))

    def get(self, account_id: str) -> Account | None:
        return _ACCOUNTS.one(self._connection, accounts.c.id == account_id, _ALIVE)

    def by_key(self, key: str) -> Account | None:
        holds = sa.or_(accounts.c.key1 == key, accounts.c.key2 == key)
        return next(iter(_ACCOUNTS.all(self._connection, holds, _ALIVE, order=[accounts.c.seq])), None)

    def by_name(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        wanted = _key(subscription_id, resource_group, name)
        return _ACCOUNTS.one(self._connection, accounts.c.resource_key == wanted, _ALIVE)

    def deleted(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        wanted = _key(subscription_id, resource_group, name)
        return _ACCOUNTS.one(self._connection, accounts.c.resource_key == wanted, sa.not_(_ALIVE))

    def purge(self, account_id: str) -> None:
        for table in reversed(metadata.sorted_tables):
            if "account_id" in table.c:
                self._connection.execute(sa.delete(table).where(table.c.account_id == account_id))
        self._connection.execute(sa.delete(accounts).where(accounts.c.id == account_id, sa.not_(_ALIVE)))

    def by_sub_domain(self, sub_domain: str) -> Account | None:
        wanted = sub_domain.lower()
        own = _ACCOUNTS.all(
            self._connection, accounts.c.sub_domain == wanted, accounts.c.sub_domain != "", _ALIVE, order=[]
        )
        if own or not wanted:
            return own[0] if own else None
        plain = sa.func.lower(accounts.c.name) == wanted
        found = _ACCOUNTS.all(self._connection, accounts.c.sub_domain == "", plain, _ALIVE, order=[accounts.c.seq])
        return next(iter(found), None)

    def list(self, subscription_id: str | None = None) -> builtins.list[Account]:
        """In the order they were added; subscriptions compare case-insensitively too."""
        within = sa.true() if subscription_id is None else accounts.c.subscription_key == subscription_id.lower()
        return _ACCOUNTS.all(self._connection, within, _ALIVE, order=[accounts.c.seq])

    def add_group(self, group: ResourceGroup) -> None:
        if not self._insert_group(group):
            raise AlreadyThere(group.resource_id)

    def save_group(self, group: ResourceGroup) -> None:
        chosen = resource_groups.c.group_key == _key(group.subscription_id, group.name)
        self._connection.execute(sa.update(resource_groups).where(chosen).values(tags=dict(group.tags)))

    def group(self, subscription_id: str, name: str) -> ResourceGroup | None:
        return _GROUPS.one(self._connection, resource_groups.c.group_key == _key(subscription_id, name))

    def groups(self, subscription_id: str | None = None) -> builtins.list[ResourceGroup]:
        """In the order they were added."""
        mine = resource_groups.c.subscription_key
        within = sa.true() if subscription_id is None else mine == subscription_id.lower()
        return _GROUPS.all(self._connection, within, order=[resource_groups.c.seq])

    def delete_group(self, subscription_id: str, name: str) -> bool:
        chosen = resource_groups.c.group_key == _key(subscription_id, name)
        return self._connection.execute(sa.delete(resource_groups).where(chosen)).rowcount > 0

    def secret(self, name: str) -> str | None:
        return self._connection.execute(sa.select(secrets.c.value).where(secrets.c.name == name)).scalar_one_or_none()

    def add_secret(self, name: str, value: str) -> str:
        insert_new(self._connection, secrets, {"name": name, "value": value}, ("name",))
        kept = self.secret(name)
        assert kept is not None  # nothing deletes secrets
        return kept

    def _insert_group(self, group: ResourceGroup) -> bool:
        keys = {
            "group_key": _key(group.subscription_id, group.name),
            "subscription_key": group.subscription_id.lower(),
        }
        return insert_new(self._connection, resource_groups, {**_GROUPS.values(group), **keys}, ("group_key",))


def _key(*words: str) -> str:
    """None of them may hold a slash, so the join is unique."""
    return "/".join(words).lower()
