"""Who may do what: the first installation, keys and tokens, and the accounts a caller may use.

The nouns have modules of their own: tokens, outside (issuers), logins, users, roles, accounts.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.domain.access import (
    DATA_ACTIONS,
    Account,
    Action,
    Assignment,
    Principal,
    ResourceGroup,
    Role,
    ServicePrincipal,
    account_scope,
    allows,
    allows_at,
    covers,
    subscription_scope,
)
from tailorbird.domain.errors import InvalidToken, NotFound, PermissionDenied
from tailorbird.service import acting
from tailorbird.service.access.accounts import Accounts
from tailorbird.service.access.logins import Logins
from tailorbird.service.access.outside import Issuer, OutsideTokens
from tailorbird.service.access.roles import Roles, role_actions
from tailorbird.service.access.tokens import INVALID_TOKEN, Token, Tokens
from tailorbird.service.access.users import Users, new_secret, secret_digest
from tailorbird.service.audit import Refusals
from tailorbird.service.ports import AlreadyThere, Blobs, Clock, IssuerKeys, Store

__all__ = ["FIRST_NAME", "Access", "Credentials", "Issuer", "Token"]

FIRST_NAME = "local"
"""Resource group, account and location of a new installation."""

_NO_ACCESS = "Principal does not have access to API/Operation."
_FIRST_APP = "first-app-id"
_FIRST_OBJECT = "first-object-id"
_FIRST_SUBSCRIPTION = "first-subscription-id"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client needs to reach a new installation. `client_secret` is known only in the call that created it."""

    account: Account
    tenant_id: str
    client_id: str
    client_secret: str | None


class Access:
    """`issuers` are outside ones to trust, `issuer_keys` verifies their tokens; `blobs` is what a purge empties."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_hex: Callable[[], str],
        token_lifetime_seconds: int = 3600,
        *,
        issuers: Sequence[Issuer] = (),
        issuer_keys: IssuerKeys | None = None,
        blobs: Blobs | None = None,
        max_accounts: int = 30,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex
        self._outside = None if issuer_keys is None else OutsideTokens(issuers, issuer_keys, clock)
        self.tokens = Tokens(store, clock, new_hex, token_lifetime_seconds)
        self.refusals = Refusals(store, clock)
        self.logins = Logins(store, self.tokens, clock, new_hex, self.refusals)
        self.users = Users(store, clock, new_hex)
        self.roles = Roles(store, clock, new_hex)
        self.resources = Accounts(store, clock, new_hex, blobs, max_accounts)

    # --- the installation ---------------------------------------------------------------------------------------------

    def first_run(self) -> Credentials:
        """Creates what is missing: subscription, account with two keys, service principal. Safe to repeat.

        The principal is Owner, which as on Azure opens the control plane only, and OpenAI Contributor."""
        try:
            return self._first_run()
        except AlreadyThere:
            # Another process created it between our look and our write; now it is there to be read.
            return self._first_run()

    @property
    def tenant_id(self) -> str:
        """The one tenant of this installation."""
        return self.tokens.tenant_id

    # --- who asks -----------------------------------------------------------------------------------------------------

    def by_key(self, key: str) -> tuple[Principal, Account] | None:
        """Whose key this is; None when nobody's."""
        with self._store.begin() as tx:
            account = tx.accounts.by_key(key)
        if account is None:
            return None
        # The database compared with an index; compare once more without a shortcut that time would betray.
        given = key.encode()
        first, second = (hmac.compare_digest(given, known.encode()) for known in (account.key1, account.key2))
        if not (first or second):
            return None
        name = "Key1" if first else "Key2"
        principal = Principal(id=f"{account.id}/{name}", name=f"{account.name} {name}", key_account=account.id)
        acting.identified(principal, account.id)
        return principal, account

    def by_token(self, token: str) -> Principal:
        """Raises InvalidToken when it is nobody's we trust, damaged, expired, or its holder is gone."""
        principal = self._by_token(token)
        acting.identified(principal)
        return principal

    def _by_token(self, token: str) -> Principal:
        issuer = None if self._outside is None else self._outside.issuer_of(token)
        if self._outside is not None and issuer is not None:
            outsider = self._outside.verify(token, issuer)
            with self._store.begin() as tx:
                return Principal(outsider.id, outsider.name, tx.identities.assignments(outsider.id))
        claims = self.tokens.claims(token)
        with self._store.begin() as tx:
            if claims.get("idtyp") == "user":
                holder = tx.identities.user(str(claims["oid"]))
            else:
                holder = tx.identities.service_principal(str(claims["appid"]))
        if holder is None or holder.object_id != claims["oid"]:
            raise InvalidToken(INVALID_TOKEN)
        return Principal(id=holder.object_id, name=holder.name, assignments=holder.assignments)

    # --- what they may do ---------------------------------------------------------------------------------------------

    def authorize(self, principal: Principal, action: Action, account: Account) -> None:
        """Raises PermissionDenied in the words of the plane the action belongs to."""
        if allows(principal, action, account):
            return
        self.refusals.note(action, account.resource_id)
        if action in DATA_ACTIONS:
            raise PermissionDenied(_NO_ACCESS)
        raise PermissionDenied(role_actions(principal, action, account.resource_id))

    def authorize_at(self, principal: Principal, action: Action, scope: str) -> None:
        """The same for anything on the control plane, there or not yet."""
        if not allows_at(principal, action, scope):
            self.refusals.note(action, scope)
            raise PermissionDenied(role_actions(principal, action, scope))

    def check_scope(self, scope: str) -> None:
        """Raises NotFound when the subscription, resource group or account is not there."""
        _, _, subscription, *rest = [*scope.split("/"), ""] if scope == "/" else scope.split("/")
        if subscription and not self.resources.groups(subscription):
            raise NotFound(f"The subscription '{subscription}' could not be found.", code="SubscriptionNotFound")
        if len(rest) > 1:
            self.resources.group(subscription, rest[1])
        if len(rest) > 5:
            self.account(subscription, rest[1], rest[5])

    def default_account(self, principal: Principal, action: Action, wanted: str | None = None) -> Account:
        """The account a token's holder means: the one whose sub-domain or name is `wanted`, or the first on which they
        may do this. Raises PermissionDenied when there is none."""
        with self._store.begin() as tx:
            named = None if wanted is None else tx.accounts.by_sub_domain(wanted)
            known = tx.accounts.list() if named is None else [named]
        for account in known:
            meant = wanted is None or account == named or account.name.lower() == wanted.lower()
            if meant and allows(principal, action, account):
                acting.current().account = account.id
                return account
        self.refusals.note(action, "/" if named is None else named.resource_id)
        raise PermissionDenied(_NO_ACCESS)

    def account(self, subscription_id: str, resource_group: str, name: str) -> Account:
        """Case-insensitive. Raises NotFound."""
        with self._store.begin() as tx:
            account = tx.accounts.by_name(subscription_id, resource_group, name)
        if account is None:
            raise NotFound(
                f"The Resource 'Microsoft.CognitiveServices/accounts/{name}' under resource group '{resource_group}' "
                "was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
                code="ResourceNotFound",
            )
        return account

    def open(
        self, principal: Principal, action: Action, subscription_id: str, resource_group: str, name: str
    ) -> Account:
        """The account, for somebody who may do `action` on it. Raises PermissionDenied, NotFound.

        Who may not look learns nothing of what is there: permission is asked for before existence, as ARM does.
        """
        self.authorize_at(principal, action, account_scope(subscription_id, resource_group, name))
        account = self.account(subscription_id, resource_group, name)
        acting.current().account = account.id
        return account

    def accounts(
        self, principal: Principal, subscription_id: str | None = None, resource_group: str | None = None
    ) -> list[Account]:
        """The accounts the caller may see."""
        with self._store.begin() as tx:
            known = tx.accounts.list(subscription_id)
        return [
            account
            for account in known
            if allows(principal, Action.READ_ACCOUNT, account)
            and (resource_group is None or account.resource_group.lower() == resource_group.lower())
        ]

    def reached(self, principal: Principal) -> list[tuple[Account, frozenset[Action]]]:
        """The accounts on which the caller may do anything, each with what that is."""
        with self._store.begin() as tx:
            known = tx.accounts.list()
        found = [(account, frozenset(a for a in Action if allows(principal, a, account))) for account in known]
        return [(account, actions) for account, actions in found if actions]

    def usage_accounts(self, principal: Principal) -> list[Account]:
        """The accounts whose cost the caller may see: a key's own, or those a role lets them read usages of."""
        with self._store.begin() as tx:
            known = tx.accounts.list()
        return [
            account
            for account in known
            if account.id == principal.key_account or allows(principal, Action.READ_USAGES, account)
        ]

    def groups(self, principal: Principal, subscription_id: str) -> list[ResourceGroup]:
        """The resource groups the caller may see: by a role that says so, or by an account in it."""
        seen = {account.resource_group.lower() for account in self.accounts(principal, subscription_id)}
        return [
            group
            for group in self.resources.groups(subscription_id)
            if group.name.lower() in seen or allows_at(principal, Action.READ_GROUP, group.resource_id)
        ]

    def subscriptions(self, principal: Principal) -> list[str]:
        """Ids of the subscriptions in which the caller holds a role at any scope."""
        known = dict.fromkeys(group.subscription_id for group in self.resources.groups())
        held = [assignment.scope for assignment in principal.assignments]
        return [
            name
            for name in known
            if any(covers(scope, subscription_scope(name)) or covers(subscription_scope(name), scope) for scope in held)
        ]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _first_run(self) -> Credentials:
        tenant, secret = self.tenant_id, None
        with self._store.begin() as tx:
            subscription = tx.accounts.add_secret(_FIRST_SUBSCRIPTION, self._new_uuid())
            account = tx.accounts.by_name(subscription, FIRST_NAME, FIRST_NAME)
            if account is None:
                account = self._new_account(subscription)
                tx.accounts.add(account)
            app_id = tx.accounts.add_secret(_FIRST_APP, self._new_uuid())
            if tx.identities.service_principal(app_id) is None:
                secret = new_secret(self._new_hex)
                object_id = tx.accounts.add_secret(_FIRST_OBJECT, self._new_uuid())
                tx.identities.add_service_principal(
                    ServicePrincipal(app_id, object_id, "tailorbird-local", secret_digest(secret))
                )
                for role in (Role.OWNER, Role.OPENAI_CONTRIBUTOR):
                    tx.identities.add_assignment(object_id, Assignment(role, subscription_scope(subscription)))
        return Credentials(account, tenant, app_id, secret)

    def _new_account(self, subscription: str) -> Account:
        return Account(
            id=self._new_hex(),
            subscription_id=subscription,
            resource_group=FIRST_NAME,
            name=FIRST_NAME,
            location=FIRST_NAME,
            kind="OpenAI",
            key1=self._new_hex(),
            key2=self._new_hex(),
            created_at=self._clock.now(),
        )

    def _new_uuid(self) -> str:
        return str(uuid.UUID(hex=self._new_hex(), version=4))
