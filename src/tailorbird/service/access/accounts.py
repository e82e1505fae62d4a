"""Accounts and their resource groups: made, changed, deleted, brought back; their keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from tailorbird.domain.access import Account, Action, ResourceGroup, group_scope
from tailorbird.domain.audit import Act
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from tailorbird.service.audit import record
from tailorbird.service.ports import AlreadyThere, Blobs, Clock, Session, Store

KINDS = ("OpenAI", "AIServices")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,63}")
_SUB_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{1,63}")
_GROUP = re.compile(r"[\w().-]{0,89}[\w()-]")


@dataclass(frozen=True, slots=True)
class AskedAccount:
    """What a PUT says; a `location` or `sub_domain` of None was not said."""

    location: str | None
    kind: str
    sub_domain: str | None
    tags: Mapping[str, str]
    restore: bool = False


class Accounts:
    def __init__(
        self, store: Store, clock: Clock, new_hex: Callable[[], str], blobs: Blobs | None, max_accounts: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_hex = new_hex
        self._blobs = blobs
        self._max_accounts = max_accounts

    # --- groups -------------------------------------------------------------------------------------------------------

    def put_group(
        self, subscription_id: str, name: str, location: str, tags: Mapping[str, str]
    ) -> tuple[ResourceGroup, bool]:
        """The group, and whether it is new. Raises InvalidRequest, NotFound for a subscription nobody has, Conflict."""
        if _GROUP.fullmatch(name) is None:
            raise InvalidRequest(
                f"'{name}' is not a name of a resource group: up to 90 letters, digits and _ . ( ) -, not ending in a "
                "full stop.",
                code="InvalidResourceGroup",
            )
        place = location_key(location)
        with self._store.begin() as tx:
            subscription = _subscription(tx, subscription_id)
            known = tx.accounts.group(subscription_id, name)
            if known is not None:
                if known.location != place:
                    raise Conflict(
                        f"Invalid resource group location '{place}'. The resource group already exists in location "
                        f"'{known.location}'.",
                        code="InvalidResourceGroupLocation",
                    )
                changed = replace(known, tags=dict(tags))
                tx.accounts.save_group(changed)
                record(tx, self._clock.now(), Action.WRITE_GROUP, changed.resource_id, "changed")
                return changed, False
            made = ResourceGroup(subscription, name, place, self._clock.now(), dict(tags))
            tx.accounts.add_group(made)
            record(tx, made.created_at, Action.WRITE_GROUP, made.resource_id, "created")
        return made, True

    def tag_group(self, subscription_id: str, name: str, tags: Mapping[str, str]) -> ResourceGroup:
        """Raises NotFound."""
        with self._store.begin() as tx:
            changed = replace(_group(tx, subscription_id, name), tags=dict(tags))
            tx.accounts.save_group(changed)
            record(tx, self._clock.now(), Action.WRITE_GROUP, changed.resource_id, "tagged")
        return changed

    def group(self, subscription_id: str, name: str) -> ResourceGroup:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _group(tx, subscription_id, name)

    def groups(self, subscription_id: str | None = None) -> list[ResourceGroup]:
        with self._store.begin() as tx:
            return tx.accounts.groups(subscription_id)

    def delete_group(self, subscription_id: str, name: str) -> None:
        """Raises NotFound, Conflict while accounts are in it: what they hold is deleted by hand."""
        with self._store.begin() as tx:
            group = _group(tx, subscription_id, name)
            inside = [a.name for a in tx.accounts.list(subscription_id) if a.resource_group.lower() == name.lower()]
            if inside:
                raise Conflict(
                    f"The resource group '{group.name}' holds the accounts {', '.join(inside)}; delete them first."
                )
            tx.accounts.delete_group(subscription_id, name)
            record(tx, self._clock.now(), Action.DELETE_GROUP, group.resource_id)

    # --- accounts -----------------------------------------------------------------------------------------------------

    def put(self, subscription_id: str, group: str, name: str, asked: AskedAccount) -> tuple[Account, bool]:
        """The account, and whether it is new. Raises InvalidRequest, NotFound, Conflict, QuotaExceeded."""
        kind = next((kind for kind in KINDS if kind.lower() == asked.kind.lower()), None)
        if kind is None:
            raise InvalidRequest(f"'{asked.kind}' is not a kind of account; use {' or '.join(KINDS)}.", param="kind")
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(
                f"'{name}' is not a name of an account: 2 to 64 letters, digits and _ . -, beginning with a letter or "
                "digit.",
                param="accountName",
            )
        try:
            with self._store.begin() as tx:
                folder = _group(tx, subscription_id, group)
                known = tx.accounts.by_name(subscription_id, group, name)
                gone = None if known is not None else tx.accounts.deleted(subscription_id, group, name)
                if known is not None:
                    return self._change(tx, known, kind, asked), False
                if gone is not None:
                    return self._restore(tx, gone, asked), True
                made = self._new(tx, folder, name, kind, asked)
                tx.accounts.add(made)
                record(tx, made.created_at, Action.WRITE_ACCOUNT, made.resource_id, "created")
        except AlreadyThere:
            raise Conflict(f"Another request made the account '{name}' or took its sub-domain; try again.") from None
        return made, True

    def tag(self, account: Account, tags: Mapping[str, str]) -> Account:
        changed = replace(account, tags=dict(tags))
        with self._store.begin() as tx:
            tx.accounts.save(changed)
            record(tx, self._clock.now(), Action.WRITE_ACCOUNT, account.resource_id, "tagged")
        return changed

    def delete(self, account: Account) -> None:
        """Its keys stop at once; all it holds stays until it is purged. Raises Conflict while something is at work."""
        if not account.sub_domain:
            raise Conflict(
                f"The account '{account.name}' is the server's own: it answers at the plain address and stays.",
                code="CannotDeleteResource",
            )
        with self._store.begin() as tx:
            jobs, deployments = tx.jobs.active_count(account.id), tx.deployments.list(account.id)
            if jobs or deployments:
                raise Conflict(
                    f"The account '{account.name}' has {jobs} fine-tuning jobs that have not ended and "
                    f"{len(deployments)} deployments. Cancel the jobs and delete the deployments first.",
                    code="CannotDeleteResource",
                )
            tx.accounts.save(replace(account, deleted_at=self._clock.now()))
            record(tx, self._clock.now(), Action.DELETE_ACCOUNT, account.resource_id)

    def purge(self, subscription_id: str, group: str, name: str) -> None:
        """Removes a deleted account for good, with every row and blob of it. Raises NotFound."""
        with self._store.begin() as tx:
            gone = tx.accounts.deleted(subscription_id, group, name)
        if gone is None:
            raise NotFound(f"There is no deleted account '{name}' in the resource group '{group}'.")
        # Blobs first: what breaks off here is found again by the row that is still there.
        if self._blobs is not None:
            for key in self._blobs.list(f"accounts/{gone.id}"):
                self._blobs.delete(key)
        with self._store.begin() as tx:
            tx.accounts.purge(gone.id)
            record(tx, self._clock.now(), Act.PURGE_ACCOUNT, gone.resource_id)

    def keys(self, account: Account) -> tuple[str, str]:
        """Both keys, to somebody who may list them: that they were shown is written down."""
        with self._store.begin() as tx:
            record(tx, self._clock.now(), Action.LIST_KEYS, account.resource_id)
        return account.key1, account.key2

    def regenerate_key(self, account: Account, name: str) -> Account:
        """A new key in place of Key1 or Key2; the old one stops at once. Raises InvalidRequest."""
        field = {"key1": "key1", "key2": "key2"}.get(name.lower())
        if field is None:
            raise InvalidRequest(f"'{name}' is not a key; name Key1 or Key2.", param="keyName")
        with self._store.begin() as tx:
            # Read again: the other key may have been changed meanwhile.
            fresh = tx.accounts.get(account.id) or account
            changed = replace(fresh, **{field: self._new_hex()})
            tx.accounts.save(changed)
            record(tx, self._clock.now(), Action.REGENERATE_KEY, account.resource_id, field)
        return changed

    # --- inside -------------------------------------------------------------------------------------------------------

    def _change(self, tx: Session, known: Account, kind: str, asked: AskedAccount) -> Account:
        if asked.location is not None and location_key(asked.location) != known.location:
            raise Conflict(
                f"The resource '{known.name}' already exists in location '{known.location}' and cannot be created in "
                f"location '{location_key(asked.location)}'. Use another name, or leave the location.",
                code="InvalidResourceLocation",
            )
        own = known.sub_domain or known.name.lower()
        if asked.sub_domain is not None and asked.sub_domain.lower() != own:
            raise InvalidRequest(
                f"The sub-domain of an account stays what it is, here '{own}'.",
                param="properties.customSubDomainName",
                code="SubDomainCannotBeChanged",
            )
        changed = replace(known, kind=kind, tags=dict(asked.tags))
        tx.accounts.save(changed)
        record(tx, self._clock.now(), Action.WRITE_ACCOUNT, known.resource_id, "changed")
        return changed

    def _restore(self, tx: Session, gone: Account, asked: AskedAccount) -> Account:
        if not asked.restore:
            raise Conflict(
                f"An account '{gone.name}' was deleted here and not purged. Set properties.restore to true to bring it "
                "back, purge it, or use another name.",
                code="FlagMustBeSetForRestore",
            )
        back = replace(gone, deleted_at=None)
        tx.accounts.save(back)
        record(tx, self._clock.now(), Action.WRITE_ACCOUNT, back.resource_id, "restored")
        return back

    def _new(self, tx: Session, group: ResourceGroup, name: str, kind: str, asked: AskedAccount) -> Account:
        if asked.restore:
            raise InvalidRequest(
                f"There is no deleted account '{name}' to restore.", param="properties.restore", code="CanNotRestore"
            )
        if asked.location is None:
            raise InvalidRequest(
                "The location property is required for this definition.", param="location", code="LocationRequired"
            )
        place = location_key(asked.location)
        beside = sum(account.location == place for account in tx.accounts.list(group.subscription_id))
        if beside >= self._max_accounts:
            raise QuotaExceeded(
                f"The subscription has {beside} accounts in {place}, and {self._max_accounts} is the limit. "
                "Delete one, or use another location.",
                code="AccountQuotaExceeded",
            )
        return Account(
            id=self._new_hex(),
            subscription_id=group.subscription_id,
            resource_group=group.name,
            name=name,
            location=place,
            kind=kind,
            key1=self._new_hex(),
            key2=self._new_hex(),
            created_at=self._clock.now(),
            sub_domain=self._sub_domain(tx, name, asked.sub_domain),
            tags=dict(asked.tags),
        )

    def _sub_domain(self, tx: Session, name: str, asked: str | None) -> str:
        wanted = (re.sub(r"[^a-z0-9-]", "-", name.lower()) if asked is None else asked).lower()
        if _SUB_DOMAIN.fullmatch(wanted) is None:
            raise InvalidRequest(
                f"'{wanted}' is not a sub-domain: 2 to 64 letters, digits and -, beginning with a letter or digit.",
                param="properties.customSubDomainName",
            )
        if tx.accounts.by_sub_domain(wanted) is None:
            return wanted
        if asked is not None:
            raise Conflict(
                f"The sub-domain '{asked}' is another account's. Pick a different one.", code="CustomDomainInUse"
            )
        return f"{wanted[:57]}-{self._new_hex()[:6]}"


def location_key(text: str) -> str:
    """A location as ARM compares it: "Sweden Central" is swedencentral. Raises InvalidRequest."""
    key = text.replace(" ", "").lower()
    if not key.isalnum():
        raise InvalidRequest(f"'{text}' is not a location; use one as swedencentral.", param="location")
    return key


def _subscription(tx: Session, subscription_id: str) -> str:
    """The subscription in its own case."""
    for known in tx.accounts.groups(subscription_id):
        return known.subscription_id
    raise NotFound(f"The subscription '{subscription_id}' could not be found.", code="SubscriptionNotFound")


def _group(tx: Session, subscription_id: str, name: str) -> ResourceGroup:
    found = tx.accounts.group(subscription_id, name)
    if found is None:
        raise NotFound(
            f"Resource group '{name}' could not be found in {group_scope(subscription_id, name)}.",
            code="ResourceGroupNotFound",
        )
    return found
