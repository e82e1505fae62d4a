"""Deployments: create, provision, delete, and where a request for one is sent.

A deployment's adapter is loaded in the engine under its checkpoint's id. Rows say what shall be; an engine that
lost an adapter (it was restarted, or needed the room) gets it again from the blobs when a request comes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird.domain import ids
from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Deployment, ProvisioningState, check_move
from tailorbird.domain.errors import (
    Conflict,
    DeploymentNotFound,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from tailorbird.service.adapters import Adapters
from tailorbird.service.models import Catalogue, model_not_found
from tailorbird.service.ports import (
    AlreadyThere,
    BlobMissing,
    Clock,
    Engine,
    EngineDown,
    EngineRefused,
    Engines,
    Session,
    Store,
)
from tailorbird.service.sources import FORMAT, Asked, find_source, source_to_deploy

log = logging.getLogger(__name__)

SKUS = (
    "Standard",
    "GlobalStandard",
    "DataZoneStandard",
    "DeveloperTier",
    "ProvisionedManaged",
    "GlobalProvisionedManaged",
    "DataZoneProvisionedManaged",
)
"""Names of CONTRACT §8.2 in Azure's spelling; compared without case. `Developer` is az's name for DeveloperTier."""

_NOT_DEPLOYED = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `engine_model` is the name in the engine, `served_model` what the answer carries.

    `checkpoint_id` None is the plain base model; `catalogue_name` says what it may be asked (chat, completion).
    """

    engine: Engine
    engine_model: str
    base: str
    served_model: str
    deployment: Deployment | None
    account_id: str = ""
    checkpoint_id: str | None = None
    catalogue_name: str = ""


class Deployments:
    def __init__(
        self,
        store: Store,
        adapters: Adapters,
        engines: Engines,
        catalogue: Catalogue,
        clock: Clock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        patience_seconds: float = 120.0,
    ) -> None:
        self._store = store
        self._adapters = adapters
        self._engines = engines
        self._catalogue = catalogue
        self._clock = clock
        self._sleep = sleep
        self._patience = patience_seconds
        # One after the other: each of the moves below reads a row and writes it back.
        self._moves = threading.Lock()
        self._loading: dict[str, asyncio.Lock] = {}

    # --- rows ---------------------------------------------------------------------------------------------------------

    def create(
        self,
        account: Account,
        name: str,
        *,
        model_name: str,
        model_format: str = FORMAT,
        model_version: str | None = None,
        sku_name: str = SKUS[0],
        capacity: int = 1,
        tags: dict[str, str] | None = None,
        by: str,
    ) -> tuple[Deployment, bool]:
        """The deployment as it shall be, and whether it is new; `provision` does the rest while it is `Creating`.

        An existing one of this name is updated, or provisioned again when it failed or names another model. Raises
        InvalidRequest and Conflict (a fine-tuned model has one deployment at most, as on Azure).
        """
        _check_name(name)
        sku = _sku(sku_name, model_name, model_version)
        _check_capacity(capacity)
        now = self._clock.now()
        asked = Asked(model_name, model_format, model_version)
        try:
            with self._moves, self._store.begin() as tx:
                source, version = source_to_deploy(tx, self._catalogue, account.id, asked, now.date())
                wanted = Deployment(
                    account_id=account.id,
                    name=name,
                    model_name=model_name,
                    model_format=FORMAT,
                    model_version=version,
                    served_model=source.served_azure,
                    base=source.base,
                    checkpoint_id=source.checkpoint_id,
                    catalogue_name=source.catalogue_name,
                    sku_name=sku,
                    capacity=capacity,
                    state=ProvisioningState.CREATING,
                    created_at=now,
                    updated_at=now,
                    created_by=by,
                    tags=tags or {},
                )
                existing = tx.deployments.get(account.id, name)
                made = wanted if existing is None else _updated(existing, wanted)
                if existing is None:
                    tx.deployments.add(made)
                else:
                    tx.deployments.save(made)
                # After writing, so that of two requests at once the second sees the first.
                _refuse_second(tx, made)
                return made, existing is None
        except AlreadyThere:
            raise Conflict(
                f"Another request creates the deployment '{name}' at this moment. Wait for it, then send yours again.",
                code="RequestConflict",
            ) from None

    def get(self, account_id: str, name: str) -> Deployment:
        """Raises NotFound."""
        with self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
        if deployment is None:
            raise NotFound(
                f"The Resource 'Microsoft.CognitiveServices/accounts/deployments/{name}' was not found.",
                code="ResourceNotFound",
            )
        return deployment

    def list(self, account_id: str) -> list[Deployment]:
        with self._store.begin() as tx:
            return tx.deployments.list(account_id)

    def mark_deleting(self, account_id: str, name: str) -> Deployment | None:
        """The first half of `delete`: from here on it serves nobody. None when there is no such deployment."""
        with self._moves, self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
            if deployment is None or deployment.state is ProvisioningState.DELETING:
                return deployment
            check_move(deployment.state, ProvisioningState.DELETING)
            leaving = dataclasses.replace(
                deployment, state=ProvisioningState.DELETING, failure=None, updated_at=self._clock.now()
            )
            tx.deployments.save(leaving)
        return leaving

    def touch(self, account_id: str, name: str) -> None:
        """Remembers that it served a request just now."""
        with self._store.begin() as tx:
            tx.deployments.touch(account_id, name, self._clock.now())

    # --- engines ------------------------------------------------------------------------------------------------------

    async def provision(self, account_id: str, name: str) -> None:
        """Makes a `Creating` deployment serve, or `Failed` with the reason. Running it twice is running it once."""
        waited, pause = 0.0, _FIRST_PAUSE
        while (deployment := await asyncio.to_thread(self._creating, account_id, name)) is not None:
            try:
                await self._load(self._target(deployment))
            except EngineDown:
                if waited >= self._patience:
                    reason = (
                        f"The engine of base model '{deployment.base}' could not be reached for {self._patience:.0f} "
                        "seconds. Send the request again when it runs."
                    )
                    await asyncio.to_thread(self._settle, deployment, ProvisioningState.FAILED, reason)
                    return
                await self._sleep(pause)
                waited, pause = waited + pause, min(pause * 2, _LONGEST_PAUSE)
            except EngineRefused as refusal:
                await asyncio.to_thread(
                    self._settle, deployment, ProvisioningState.FAILED, f"The engine refused the adapter: {refusal}"
                )
                return
            except BlobMissing:
                reason = f"The weights of '{deployment.model_name}' are not in the blob store any more."
                await asyncio.to_thread(self._settle, deployment, ProvisioningState.FAILED, reason)
                return
            else:
                # The row may name another model by now; then it is still Creating and comes round again.
                await asyncio.to_thread(self._settle, deployment, ProvisioningState.SUCCEEDED, None)

    async def delete(self, account_id: str, name: str) -> bool:
        """Takes it out of service, out of the engine and out of the store. False when there is no such deployment.

        The fine-tuned model stays and can be deployed again."""
        deployment = await asyncio.to_thread(self.mark_deleting, account_id, name)
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

    def target(self, account_id: str, name: str) -> Target:
        """Raises DeploymentNotFound unless it is ready, Unavailable when its base model has no engine."""
        with self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
        if deployment is None or deployment.state is not ProvisioningState.SUCCEEDED:
            raise DeploymentNotFound(_NOT_DEPLOYED, code="DeploymentNotFound")
        try:
            return self._target(deployment)
        except EngineDown as down:
            raise _unavailable(deployment.base) from down

    def target_of_model(self, account_id: str, model_name: str) -> Target:
        """A model by its own name, without a deployment, as OpenAI serves them. Raises ModelNotFound, Unavailable."""
        with self._store.begin() as tx:
            source = find_source(tx, self._catalogue, account_id, model_name)
        if source is None:
            raise model_not_found(model_name)
        try:
            engine = self._engines.of(source.base)
        except EngineDown as down:
            raise _unavailable(source.base) from down
        return Target(
            engine=engine,
            engine_model=source.checkpoint_id or source.base,
            base=source.base,
            served_model=source.served_openai,
            deployment=None,
            account_id=account_id,
            checkpoint_id=source.checkpoint_id,
            catalogue_name=source.catalogue_name,
        )

    async def ensure_loaded(self, target: Target) -> None:
        """Loads the target's adapter into its engine, whether or not it is there: call it when the engine said
        AdapterUnknown. Raises Unavailable, and ModelNotFound when the weights were deleted."""
        try:
            await self._load(target)
        except EngineDown as down:
            raise _unavailable(target.base) from down
        except EngineRefused as refusal:
            raise Unavailable(f"The engine refused the adapter of '{target.served_model}': {refusal}") from refusal
        except BlobMissing as missing:
            raise model_not_found(target.served_model) from missing

    # --- inside -------------------------------------------------------------------------------------------------------

    def _target(self, deployment: Deployment) -> Target:
        return Target(
            engine=self._engines.of(deployment.base),
            engine_model=deployment.checkpoint_id or deployment.base,
            base=deployment.base,
            served_model=deployment.served_model,
            deployment=deployment,
            account_id=deployment.account_id,
            checkpoint_id=deployment.checkpoint_id,
            catalogue_name=deployment.catalogue_name,
        )

    async def _load(self, target: Target) -> None:
        """Raises EngineDown, EngineRefused, BlobMissing."""
        if target.checkpoint_id is None:
            if not await target.engine.ready():
                raise EngineDown(f"the engine of {target.base} is not ready")
            return
        # A burst of requests for an adapter that is not loaded fetches it once.
        async with self._loading.setdefault(target.checkpoint_id, asyncio.Lock()):
            folder = await asyncio.to_thread(self._folder_of, target.account_id, target.checkpoint_id)
            await target.engine.load_adapter(target.engine_model, folder)

    def _folder_of(self, account_id: str, checkpoint_id: str) -> Path:
        with self._store.begin() as tx:
            checkpoint = tx.jobs.find_checkpoint(account_id, checkpoint_id)
        if checkpoint is None:
            raise BlobMissing(checkpoint_id)
        return self._adapters.local(checkpoint.id, checkpoint.adapter_key)

    def _creating(self, account_id: str, name: str) -> Deployment | None:
        with self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
        return deployment if deployment is not None and deployment.state is ProvisioningState.CREATING else None

    def _unfinished(self) -> Sequence[Deployment]:
        with self._store.begin() as tx:
            return tx.deployments.unfinished()

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
            try:
                # Two servers may have created one each at the same moment; the later gives way.
                _refuse_second(tx, row)
            except Conflict as conflict:
                state, failure = ProvisioningState.FAILED, conflict.message
            check_move(row.state, state)
            tx.deployments.save(dataclasses.replace(row, state=state, failure=failure, updated_at=self._clock.now()))
        if failure is not None:
            log.warning("deployment failed", extra={"deployment": seen.name, "reason": failure})


def _check_name(name: str) -> None:
    if not ids.is_resource_name(name):
        raise InvalidRequest(
            f"The deployment name '{name}' is not valid. Use 1 to 64 letters, digits, dots, hyphens and "
            "underscores; the first must be a letter or digit.",
            param="name",
            code="InvalidResourceName",
        )


def _check_capacity(capacity: int) -> None:
    if capacity < 1:
        raise InvalidRequest(
            f"The capacity must be a whole number of at least 1 (thousand tokens per minute), not {capacity}.",
            param="sku.capacity",
            code="InvalidCapacity",
        )


def _sku(name: str, model_name: str, model_version: str | None) -> str:
    wanted = "developertier" if name.lower() == "developer" else name.lower()
    for known in SKUS:
        if known.lower() == wanted:
            return known
    raise InvalidRequest(
        f"The specified SKU '{name}' of account deployment is not supported by the model '{model_name}' version: "
        f"'{model_version or ''}'. Supported are {', '.join(SKUS)}.",
        param="sku.name",
        code="InvalidResourceProperties",
    )


def _refuse_second(tx: Session, deployment: Deployment) -> None:
    """Raises Conflict when another deployment serves the same checkpoint."""
    other = None if deployment.checkpoint_id is None else tx.deployments.of_checkpoint(deployment.checkpoint_id)
    if other is None or (other.account_id, other.name.lower()) == (deployment.account_id, deployment.name.lower()):
        return
    raise Conflict(
        f"Only one deployment is permitted for a fine-tuned model: '{deployment.served_model}' is already served by "
        f"the deployment '{other.name}' ({other.state}). Use that one, or delete it before creating "
        f"'{deployment.name}'.",
        param="properties.model.name",
        code="DeploymentAlreadyExists",
    )


def _updated(existing: Deployment, wanted: Deployment) -> Deployment:
    """`existing` after a PUT of `wanted`. Raises Conflict while it is being deleted or moved to another model."""
    if existing.state is ProvisioningState.DELETING:
        raise Conflict(
            f"The deployment '{existing.name}' is being deleted. Wait until it is gone, then create it again.",
            code="RequestConflict",
        )
    same = existing.checkpoint_id == wanted.checkpoint_id and existing.catalogue_name == wanted.catalogue_name
    merged = dataclasses.replace(
        wanted,
        name=existing.name,
        created_at=existing.created_at,
        created_by=existing.created_by,
        last_used_at=existing.last_used_at,
    )
    if same and existing.state is not ProvisioningState.FAILED:
        return dataclasses.replace(merged, state=existing.state)
    if existing.state is ProvisioningState.CREATING:
        raise Conflict(
            f"The deployment '{existing.name}' is still being created with the model '{existing.model_name}'. "
            "Wait until it is ready, then point it to another.",
            code="RequestConflict",
        )
    check_move(existing.state, ProvisioningState.CREATING)
    return merged


def _unavailable(base: str) -> Unavailable:
    return Unavailable(f"The engine of the base model '{base}' cannot be reached at the moment. Try again shortly.")
