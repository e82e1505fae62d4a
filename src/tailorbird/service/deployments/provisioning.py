"""Brings deployments into their engines and takes them out again, however often the server is restarted meanwhile."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from tailorbird.domain.access import Action
from tailorbird.domain.deployments import ALWAYS, Deployment, Limits, Precondition, ProvisioningState, check_move
from tailorbird.domain.errors import Conflict, ServiceError
from tailorbird.service.adapters import Adapters
from tailorbird.service.audit import record, resource_in
from tailorbird.service.copies import Copies
from tailorbird.service.deployments.targets import Targets
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import BlobMissing, Clock, EngineDown, EngineRefused, Engines, Store
from tailorbird.service.usage import hosting

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


class Provisioning(Targets):
    def __init__(
        self,
        store: Store,
        adapters: Adapters,
        engines: Engines,
        catalogue: Catalogue,
        clock: Clock,
        limits: Limits,
        sleep: Callable[[float], Awaitable[None]],
        patience_seconds: float,
    ) -> None:
        super().__init__(store, adapters, engines, catalogue, clock)
        self._copies = Copies(store, adapters, catalogue, clock)
        self.limits = limits
        self._sleep = sleep
        self._patience = patience_seconds
        # One after the other: each of the moves reads a row and writes it back.
        self._moves = threading.Lock()

    async def provision(self, account_id: str, name: str) -> None:
        """Makes a `Creating` deployment serve, or `Failed` with the reason. Running it twice is running it once."""
        waited, pause = 0.0, _FIRST_PAUSE
        while (deployment := await asyncio.to_thread(self._creating, account_id, name)) is not None:
            failure: str | None = None
            try:
                await asyncio.to_thread(self._bring_copy, deployment)
                await self._load(self._target(deployment))
            except EngineDown:
                if waited < self._patience:
                    await self._sleep(pause)
                    waited, pause = waited + pause, min(pause * 2, _LONGEST_PAUSE)
                    continue
                failure = (
                    f"The engine of base model '{deployment.base}' could not be reached for {self._patience:.0f} "
                    "seconds. Send the request again when it runs."
                )
            except EngineRefused as refusal:
                failure = f"The engine refused the adapter: {refusal}"
            except BlobMissing:
                failure = f"The weights of '{deployment.model_name}' are not in the blob store any more."
            except ServiceError as fault:
                failure = f"The model could not be copied from '{deployment.source}': {fault.message}"
            # The row may name another model by now; then it is still Creating and comes round again.
            state = ProvisioningState.SUCCEEDED if failure is None else ProvisioningState.FAILED
            await asyncio.to_thread(self._settle, deployment, state, failure)

    def mark_deleting(
        self, account_id: str, name: str, precondition: Precondition = ALWAYS, why: str = ""
    ) -> Deployment | None:
        """The first half of `delete`: from here on it serves nobody. None when there is no such deployment.

        `why` is for the audit trail. Raises PreconditionFailed."""
        with self._moves, self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
            precondition.check(deployment)
            if deployment is None or deployment.state is ProvisioningState.DELETING:
                return deployment
            check_move(deployment.state, ProvisioningState.DELETING)
            leaving = dataclasses.replace(
                deployment, state=ProvisioningState.DELETING, failure=None, updated_at=self._clock.now()
            )
            tx.deployments.save(leaving)
            hosting.follow(tx, leaving, leaving.updated_at)
            resource = resource_in(tx, account_id, f"/deployments/{leaving.name}")
            record(tx, leaving.updated_at, Action.DELETE_DEPLOYMENT, resource, why)
        return leaving

    async def delete(self, account_id: str, name: str, why: str = "") -> bool:
        """Takes it out of service, out of the engine and out of the store. False when there is no such deployment.

        The fine-tuned model stays and can be deployed again."""
        deployment = await asyncio.to_thread(self.mark_deleting, account_id, name, why=why)
        if deployment is None:
            return False
        if deployment.checkpoint_id is not None:
            try:
                await self._engines.of(deployment.base).unload_adapter(deployment.checkpoint_id)
            except (EngineDown, EngineRefused) as error:
                # What a dead engine holds dies with it, and nothing asks a living one for it.
                log.warning("adapter not unloaded", extra={"adapter": deployment.checkpoint_id, "reason": str(error)})
        await asyncio.to_thread(self._remove, deployment)
        return True

    async def resume_unfinished(self) -> None:
        """Finishes what an earlier server process began; called once at start."""
        unfinished = await asyncio.to_thread(self._unfinished)
        await asyncio.gather(
            *(
                self.delete(d.account_id, d.name)
                if d.state is ProvisioningState.DELETING
                else self.provision(d.account_id, d.name)
                for d in unfinished
            )
        )

    async def end_expired(self) -> None:
        """Deletes what the clock ends: fine-tuned models nobody used for `idle_days`, the developer tier after its
        hours. The models stay, as with every deletion."""
        for deployment in await asyncio.to_thread(self._expired):
            log.info(
                "deployment ended by the clock",
                extra={"deployment": deployment.name, "account": deployment.account_id, "sku": deployment.sku_name},
            )
            await self.delete(deployment.account_id, deployment.name, "ended by the clock")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _bring_copy(self, deployment: Deployment) -> None:
        """A model of another account becomes this account's own before it is served. Raises ServiceError, BlobMissing.

        Once it is there the original may go."""
        if deployment.source is None or deployment.checkpoint_id is None:
            return
        with self._store.begin() as tx:
            here = tx.jobs.find_checkpoint(deployment.account_id, deployment.checkpoint_id)
            destination = tx.accounts.get(deployment.account_id)
            source = next((a for a in tx.accounts.list() if a.resource_id.lower() == deployment.source.lower()), None)
        if here is not None and here.deployable:
            return
        if source is None or destination is None:
            raise Conflict("the account does not exist any more.")
        copied = self._copies.copy_checkpoint(source, deployment.model_name, destination)
        if copied.checkpoint.id != deployment.checkpoint_id:
            raise Conflict(f"'{deployment.model_name}' is another model by now; create the deployment again.")

    def _creating(self, account_id: str, name: str) -> Deployment | None:
        with self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
        return deployment if deployment is not None and deployment.state is ProvisioningState.CREATING else None

    def _unfinished(self) -> Sequence[Deployment]:
        with self._store.begin() as tx:
            return tx.deployments.unfinished()

    def _expired(self) -> Sequence[Deployment]:
        now, days, hours = self._clock.now(), self.limits.idle_days, self.limits.developer_hours
        with self._store.begin() as tx:
            return tx.deployments.expired(
                now - timedelta(days=days) if days > 0 else None,
                now - timedelta(hours=hours) if hours > 0 else None,
            )

    def _remove(self, seen: Deployment) -> None:
        with self._moves, self._store.begin() as tx:
            deployment = tx.deployments.get(seen.account_id, seen.name)
            # Not one of the same name that was created after another server had removed this one.
            if deployment is not None and deployment.created_at == seen.created_at:
                tx.deployments.delete(seen.account_id, seen.name)

    def _settle(self, seen: Deployment, state: ProvisioningState, failure: str | None) -> None:
        """Writes the outcome, unless the row was deleted or points elsewhere since it was seen."""
        with self._moves, self._store.begin() as tx:
            row = tx.deployments.get(seen.account_id, seen.name)
            if row is None or row.state is not ProvisioningState.CREATING or row.checkpoint_id != seen.checkpoint_id:
                return
            check_move(row.state, state)
            settled = dataclasses.replace(row, state=state, failure=failure, updated_at=self._clock.now())
            tx.deployments.save(settled)
            hosting.follow(tx, settled, settled.updated_at)
        if failure is not None:
            log.warning("deployment failed", extra={"deployment": seen.name, "reason": failure})
