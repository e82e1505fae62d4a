"""Copies of fine-tuned models and checkpoints in other accounts: own rows, own bytes, own life.

A copy's ids follow from what it is a copy of and whose it is, so that making it again makes the same one: whoever was
interrupted starts over. It belongs to a job of its own that never ran; deleting the copy, or what it was copied from,
leaves the other alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain import ids
from tailorbird.domain.access import Account
from tailorbird.domain.errors import Conflict, InvalidRequest
from tailorbird.domain.jobs import Checkpoint
from tailorbird.domain.models import TunedModel
from tailorbird.service.adapters import Adapters
from tailorbird.service.models import Catalogue, model_not_found
from tailorbird.service.ports import Clock, Session, Store
from tailorbird.service.sources import Source, find_source


@dataclass(frozen=True, slots=True)
class Copy:
    """The rows of a copy. Both names are those of the original."""

    model: TunedModel
    checkpoint: Checkpoint


class Copies:
    def __init__(self, store: Store, adapters: Adapters, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._adapters = adapters
        self._catalogue = catalogue
        self._clock = clock

    def copy_checkpoint(self, source: Account, reference: str, destination: Account) -> Copy:
        """Brings the model or checkpoint `reference` (any of its names, or its id) of `source` into `destination`.

        Whether the caller may is not asked here. Takes as long as the bytes take; done before, it answers what is
        there. Raises ModelNotFound, InvalidRequest (a base model, or one account twice), Conflict (another model of
        that name) and BlobMissing.
        """
        if source.id == destination.id:
            raise InvalidRequest("The source and the destination of a copy are the same account; name another.")
        with self._store.begin() as tx:
            original, checkpoint = self._original(tx, source, reference)
            copied = self._copied(original, checkpoint, destination)
            here = tx.jobs.find_checkpoint(destination.id, copied.checkpoint.id)
            model = tx.models.find(destination.id, copied.model.name)
        if model is not None and model.checkpoint_id != copied.checkpoint.id:
            raise Conflict(
                f"The account '{destination.name}' has another model called '{model.name}'; delete that first.",
                param="destination",
            )
        if here is not None and here.deployable and model is not None:
            return Copy(model, here)
        # Bytes first: a row without its adapter would be a broken promise.
        self._adapters.copy(checkpoint.adapter_key, copied.checkpoint.adapter_key)
        with self._store.begin() as tx:
            tx.jobs.add_checkpoint(copied.checkpoint)
            tx.models.add(copied.model)
        return copied

    def _original(self, tx: Session, source: Account, reference: str) -> tuple[Source, Checkpoint]:
        original = find_source(tx, self._catalogue, source.id, reference)
        if original is None:
            raise model_not_found(reference)
        if original.checkpoint_id is None:
            raise InvalidRequest(
                f"'{reference}' is a base model, which every account has; only fine-tuned models are copied."
            )
        checkpoint = tx.jobs.find_checkpoint(source.id, original.checkpoint_id)
        if checkpoint is None:
            raise model_not_found(reference)
        return original, checkpoint

    def _copied(self, original: Source, checkpoint: Checkpoint, destination: Account) -> Copy:
        now = self._clock.now()
        code = copy_id(checkpoint.id, destination.id)
        job = ids.job_id(code.removeprefix("ftchkpt-"))
        own = Checkpoint(
            id=code,
            job_id=job,
            account_id=destination.id,
            step=checkpoint.step,
            name=original.served_azure,
            openai_name=original.served_openai,
            adapter_key=f"accounts/{destination.id}/adapters/{code}",
            created_at=now,
            metrics=checkpoint.metrics,
            final=True,
            deployable=True,
        )
        model = TunedModel(
            name=original.served_azure,
            openai_name=original.served_openai,
            account_id=destination.id,
            job_id=job,
            checkpoint_id=code,
            catalogue_name=original.catalogue_name,
            base=original.base,
            template_hash=original.template_hash or "",
            created_at=now,
        )
        return Copy(model, own)


def copy_id(checkpoint_id: str, destination_id: str) -> str:
    """The id of a checkpoint's copy in an account."""
    return ids.checkpoint_id(f"{checkpoint_id}/{destination_id}", 0)
