"""The tables of accounts, groups and secrets, and of those who may use them; keys of outside issuers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tailorbird.domain.access import (
    Account,
    Assignment,
    DeviceCode,
    Grant,
    RefreshToken,
    ResourceGroup,
    ServicePrincipal,
    User,
)


class AccountTable(Protocol):
    """Of a deleted account only `deleted` and `purge` know."""

    def add(self, account: Account) -> None:
        """Raises AlreadyThere when the resource id or the sub-domain is taken (both compare case-insensitively).

        Its resource group comes with it when it is not there yet."""
        ...

    def save(self, account: Account) -> None:
        """Writes location, kind, keys, sub-domain, tags and `deleted_at`. Raises AlreadyThere for the sub-domain."""
        ...

    def get(self, account_id: str) -> Account | None: ...

    def by_key(self, key: str) -> Account | None:
        """The account one of whose two keys this is."""
        ...

    def by_name(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        """Case-insensitive, as ARM is."""
        ...

    def deleted(self, subscription_id: str, resource_group: str, name: str) -> Account | None:
        """The deleted account that still holds this name."""
        ...

    def purge(self, account_id: str) -> None:
        """Removes a deleted account and every row that was its own."""
        ...

    def by_sub_domain(self, sub_domain: str) -> Account | None:
        """Case-insensitive; an account without one answers to its name."""
        ...

    def list(self, subscription_id: str | None = None) -> list[Account]: ...

    def add_group(self, group: ResourceGroup) -> None:
        """Raises AlreadyThere."""
        ...

    def save_group(self, group: ResourceGroup) -> None:
        """Writes the tags."""
        ...

    def group(self, subscription_id: str, name: str) -> ResourceGroup | None:
        """Case-insensitive."""
        ...

    def groups(self, subscription_id: str | None = None) -> list[ResourceGroup]: ...

    def delete_group(self, subscription_id: str, name: str) -> bool: ...

    def secret(self, name: str) -> str | None:
        """A secret of the installation itself (the token signing key)."""
        ...

    def add_secret(self, name: str, value: str) -> str:
        """Keeps the first value ever given under this name and answers it."""
        ...


class IdentityTable(Protocol):
    """Applications, users, what they may do, and the logins they have begun."""

    def add_service_principal(self, principal: ServicePrincipal) -> None:
        """Raises AlreadyThere."""
        ...

    def service_principal(self, app_id: str) -> ServicePrincipal | None: ...

    def service_principals(self) -> list[ServicePrincipal]:
        """By name, without their assignments."""
        ...

    def set_secret(self, app_id: str, digest: str) -> bool:
        """Says whether there is such an application."""
        ...

    def delete_service_principal(self, app_id: str) -> bool:
        """With its assignments."""
        ...

    def add_user(self, user: User) -> None:
        """Raises AlreadyThere when the name is taken (case-insensitive)."""
        ...

    def user(self, object_id: str) -> User | None: ...

    def user_named(self, name: str) -> User | None:
        """Case-insensitive; without assignments."""
        ...

    def users(self) -> list[User]:
        """By name, without their assignments."""
        ...

    def save_user(self, user: User) -> None:
        """Writes password, failures and lock."""
        ...

    def delete_user(self, object_id: str) -> bool:
        """With assignments and refresh tokens."""
        ...

    def assignments(self, object_id: str) -> tuple[Assignment, ...]: ...

    def add_assignment(self, object_id: str, assignment: Assignment) -> None:
        """Granting twice is granting once."""
        ...

    def add_grant(self, grant: Grant) -> bool:
        """False when the holder has this role at this scope already. Raises AlreadyThere when the id is taken."""
        ...

    def grant(self, grant_id: str) -> Grant | None: ...

    def grants(self, object_id: str | None = None) -> list[Grant]: ...

    def delete_grant(self, grant_id: str) -> bool: ...

    def add_device_code(self, code: DeviceCode, now: datetime) -> bool:
        """False when somebody is typing the same user code at this moment. Forgets codes that have expired."""
        ...

    def device_code(self, digest: str) -> DeviceCode | None: ...

    def device_code_typed(self, user_code: str) -> DeviceCode | None: ...

    def save_device_code(self, code: DeviceCode) -> None: ...

    def take_device_code(self, digest: str) -> bool:
        """Removes it; True for one caller only."""
        ...

    def add_refresh_token(self, token: RefreshToken, now: datetime) -> None:
        """Forgets tokens that have expired."""
        ...

    def refresh_token(self, digest: str) -> RefreshToken | None: ...

    def use_refresh_token(self, digest: str, now: datetime) -> None:
        """Remembers the first use."""
        ...

    def revoke_family(self, family: str) -> None: ...


class IssuerKeys(Protocol):
    """Public keys of the outside issuers an operator trusts."""

    def key(self, issuer: str, key_id: str) -> Mapping[str, Any] | None:
        """The JWK; None when the issuer has no such key or cannot be reached and none is remembered."""
        ...
