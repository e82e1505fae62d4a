"""Where a request for a deployment or a model is sent, and the adapter it needs there."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tailorbird.domain.deployments import Deployment, ProvisioningState
from tailorbird.domain.errors import DeploymentNotFound, IllegalState, Unavailable
from tailorbird.service.adapters import Adapters
from tailorbird.service.models import Catalogue, model_not_found
from tailorbird.service.ports import BlobMissing, Clock, Engine, EngineDown, EngineRefused, Engines, Store
from tailorbird.service.sources import find_source, template_fault

_NOT_DEPLOYED = (
    "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
    "please wait a moment and try again."
)
# The idle rule counts in days; a write for every request would be waste.
_TOUCH_EVERY = timedelta(minutes=1)


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


class Targets:
    def __init__(self, store: Store, adapters: Adapters, engines: Engines, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._adapters = adapters
        self._engines = engines
        self._catalogue = catalogue
        self._clock = clock
        self._loading: dict[str, asyncio.Lock] = {}
        self._touched: dict[tuple[str, str], datetime] = {}
        self._touching = threading.Lock()

    def target(self, account_id: str, name: str) -> Target:
        """Raises DeploymentNotFound unless it is ready, IllegalState when it is paused or its base model's chat
        template has changed, Unavailable when its base model has no engine."""
        with self._store.begin() as tx:
            deployment = tx.deployments.get(account_id, name)
        if deployment is None or deployment.state is not ProvisioningState.SUCCEEDED:
            raise DeploymentNotFound(_NOT_DEPLOYED, code="DeploymentNotFound")
        if deployment.paused:
            raise IllegalState(
                f"The deployment '{deployment.name}' is paused. Resume it (POST …/deployments/{deployment.name}/resume "
                "on the control plane), then send the request again."
            )
        self._refuse_stale(deployment.served_model, deployment.base, deployment.template_hash)
        try:
            return self._target(deployment)
        except EngineDown as down:
            raise _unavailable(deployment.base) from down

    def target_of_model(self, account_id: str, model_name: str) -> Target:
        """A model by its own name, without a deployment, as OpenAI serves them. Raises ModelNotFound, Unavailable, and
        IllegalState when its base model's chat template has changed."""
        with self._store.begin() as tx:
            source = find_source(tx, self._catalogue, account_id, model_name)
        if source is None:
            raise model_not_found(model_name)
        self._refuse_stale(source.served_openai, source.base, source.template_hash)
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

    def touch(self, account_id: str, name: str) -> None:
        """Remembers that it served a request just now, to the minute."""
        key, now = (account_id, name.lower()), self._clock.now()
        with self._touching:
            last = self._touched.get(key)
            if last is not None and now - last < _TOUCH_EVERY:
                return
            self._touched[key] = now
        with self._store.begin() as tx:
            tx.deployments.touch(account_id, name, now)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _refuse_stale(self, model: str, base: str, template_hash: str | None) -> None:
        stale = template_fault(self._catalogue, model, base, template_hash)
        if stale is not None:
            raise IllegalState(stale, param="model")

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


def _unavailable(base: str) -> Unavailable:
    return Unavailable(f"The engine of the base model '{base}' cannot be reached at the moment. Try again shortly.")
