"""Deployments as the control plane sees them: create, change, pause, show and list."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

from tailorbird.domain.access import Account, Action
from tailorbird.domain.deployments import ALWAYS, Deployment, Limits, Precondition, ProvisioningState
from tailorbird.domain.errors import Conflict, InvalidRequest, NotFound
from tailorbird.domain.pricing import NO_PRICES, PriceList
from tailorbird.service.adapters import Adapters
from tailorbird.service.audit import record, resource_in
from tailorbird.service.copies import copy_id
from tailorbird.service.deployments import rules
from tailorbird.service.deployments.offers import Offers
from tailorbird.service.deployments.provisioning import Provisioning
from tailorbird.service.deployments.quotes import Quotes
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import AlreadyThere, Clock, Engines, Session, Store
from tailorbird.service.sources import FORMAT, Asked, Source, source_to_deploy
from tailorbird.service.usage import hosting
from tailorbird.service.usage.budgets import Budgets


class Deployments(Provisioning):
    def __init__(
        self,
        store: Store,
        adapters: Adapters,
        engines: Engines,
        catalogue: Catalogue,
        clock: Clock,
        *,
        limits: Limits | None = None,
        prices: PriceList = NO_PRICES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience_seconds: float = 120.0,
    ) -> None:
        super().__init__(store, adapters, engines, catalogue, clock, limits or Limits(), sleep, patience_seconds)
        self.offers = Offers(store, catalogue, clock, self.limits)
        self.quotes = Quotes(store, catalogue, self.offers, clock, self.limits, prices)
        self._budgets = Budgets(store, prices, clock)

    def create(
        self,
        account: Account,
        name: str,
        *,
        model_name: str,
        model_format: str = FORMAT,
        model_version: str | None = None,
        sku_name: str = "Standard",
        capacity: int = 1,
        tags: dict[str, str] | None = None,
        version_upgrade: str | None = None,
        rai_policy: str | None = None,
        paused: bool | None = None,
        source: Account | None = None,
        precondition: Precondition = ALWAYS,
        by: str,
    ) -> tuple[Deployment, bool]:
        """The deployment as it shall be, and whether it is new; `provision` does the rest while it is `Creating`.

        An existing one of this name is updated, or provisioned again when it failed or names another model; `paused`
        None leaves it as it is. `source` is the account a fine-tuned model is copied from. Raises InvalidRequest,
        QuotaExceeded, PreconditionFailed and Conflict (a fine-tuned model has one deployment at most, as on Azure).
        """
        rules.check_name(name)
        rules.check_capacity(capacity)
        now = self._clock.now()
        asked = Asked(model_name, model_format, model_version)
        with self._alone(name, model_name) as tx:
            existing = tx.deployments.get(account.id, name)
            precondition.check(existing)
            found, version = self._found(tx, account, source, asked)
            wanted = Deployment(
                account_id=account.id,
                name=name,
                model_name=model_name,
                model_format=FORMAT,
                model_version=version,
                served_model=found.served_azure,
                base=found.base,
                checkpoint_id=found.checkpoint_id,
                catalogue_name=found.catalogue_name,
                sku_name=rules.check_sku(sku_name, model_name, version, tuned=found.checkpoint_id is not None),
                capacity=capacity,
                state=ProvisioningState.CREATING,
                created_at=now,
                updated_at=now,
                created_by=by,
                tags=tags or {},
                updated_by=by,
                version_upgrade=version_upgrade,
                rai_policy=rai_policy,
                paused=existing is not None and existing.paused if paused is None else paused,
                source=None if source is None else source.resource_id,
                template_hash=found.template_hash,
            )
            return self._write(tx, account, existing, wanted), existing is None

    def update(
        self,
        account: Account,
        name: str,
        *,
        sku_name: str | None = None,
        capacity: int | None = None,
        tags: dict[str, str] | None = None,
        precondition: Precondition = ALWAYS,
        by: str,
    ) -> Deployment:
        """Changes what is given and leaves the rest. Raises NotFound, Conflict, InvalidRequest, QuotaExceeded and
        PreconditionFailed."""
        if capacity is not None:
            rules.check_capacity(capacity)
        with self._moves, self._store.begin() as tx:
            existing = _there(tx, account.id, name)
            precondition.check(existing)
            rules.refuse_leaving(existing)
            tuned = existing.checkpoint_id is not None
            sku = existing.sku_name
            if sku_name is not None:
                sku = rules.check_sku(sku_name, existing.model_name, existing.model_version, tuned=tuned)
            rules.check_tier_change(existing, sku)
            changed = dataclasses.replace(
                existing,
                sku_name=sku,
                capacity=existing.capacity if capacity is None else capacity,
                tags=existing.tags if tags is None else tags,
                updated_at=self._clock.now(),
                updated_by=by,
            )
            rules.check_limits(tx, self._catalogue, self.limits, account, existing, changed)
            tx.deployments.save(changed)
            hosting.follow(tx, changed, changed.updated_at)
            self._record(tx, changed, f"{changed.sku_name}, capacity {changed.capacity}")
        return changed

    def set_paused(self, account_id: str, name: str, paused: bool, *, by: str) -> Deployment:
        """A paused one keeps its place and its adapter but answers nobody. Raises NotFound, Conflict."""
        with self._moves, self._store.begin() as tx:
            existing = _there(tx, account_id, name)
            rules.refuse_leaving(existing)
            if existing.paused == paused:
                return existing
            changed = dataclasses.replace(existing, paused=paused, updated_at=self._clock.now(), updated_by=by)
            tx.deployments.save(changed)
            self._record(tx, changed, "paused" if paused else "resumed")
        return changed

    def get(self, account_id: str, name: str) -> Deployment:
        """Raises NotFound."""
        with self._store.begin() as tx:
            return _there(tx, account_id, name)

    def list(self, account_id: str) -> list[Deployment]:
        with self._store.begin() as tx:
            return tx.deployments.list(account_id)

    # --- inside -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self, name: str, model_name: str) -> Generator[Session]:
        """One transaction at a time in this process. Raises Conflict when another one's wrote the same meanwhile."""
        try:
            with self._moves, self._store.begin() as tx:
                yield tx
        except AlreadyThere:
            raise Conflict(
                f"Another request creates the deployment '{name}', or another one of the model '{model_name}', at "
                "this moment. Wait for it, then send yours again.",
                code="RequestConflict",
            ) from None

    def _found(self, tx: Session, account: Account, source: Account | None, asked: Asked) -> tuple[Source, str]:
        """What shall be served; of another account's model, the copy that `provision` will make."""
        owner = source or account
        found, version = source_to_deploy(tx, self._catalogue, owner.id, asked, self._clock.now().date())
        if source is None or source.id == account.id:
            return found, version
        if found.checkpoint_id is None:
            raise InvalidRequest(
                f"'{asked.name}' is a base model, which every account can deploy; leave out the source.",
                param="properties.model.source",
            )
        return dataclasses.replace(found, checkpoint_id=copy_id(found.checkpoint_id, account.id)), version

    def _write(self, tx: Session, account: Account, existing: Deployment | None, wanted: Deployment) -> Deployment:
        made = wanted if existing is None else rules.updated(existing, wanted)
        rules.refuse_second(tx, made)
        rules.check_limits(tx, self._catalogue, self.limits, account, existing, made)
        if existing is None:
            self._budgets.refuse_deployment(tx, account.id)
            tx.deployments.add(made)
        else:
            tx.deployments.save(made)
        hosting.follow(tx, made, made.updated_at)
        self._record(tx, made, f"{made.model_name}, {made.sku_name}, capacity {made.capacity}")
        return made

    def _record(self, tx: Session, row: Deployment, detail: str) -> None:
        resource = resource_in(tx, row.account_id, f"/deployments/{row.name}")
        record(tx, row.updated_at, Action.WRITE_DEPLOYMENT, resource, detail)


def _there(tx: Session, account_id: str, name: str) -> Deployment:
    deployment = tx.deployments.get(account_id, name)
    if deployment is None:
        raise NotFound(
            f"The Resource 'Microsoft.CognitiveServices/accounts/deployments/{name}' was not found.",
            code="ResourceNotFound",
        )
    return deployment
