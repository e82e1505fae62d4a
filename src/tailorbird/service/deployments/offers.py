"""What can be deployed: models with their SKUs and capacities, and how much of each quota is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from tailorbird.domain.access import Account
from tailorbird.domain.deployments import Deployment, Limits
from tailorbird.domain.models import CatalogueEntry, TunedModel
from tailorbird.service.deployments import rules
from tailorbird.service.models import Catalogue
from tailorbird.service.ports import Clock, Session, Store

DEFAULT_CAPACITY = 10
"""What a client is told to ask for when it has no wish of its own, in thousand tokens per minute."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as the control plane shows it; `tuned` is set for a fine-tuned one, `entry` is then what it came from.

    `version` is the deployment's; `capabilities` are Azure's words, all of them texts."""

    name: str
    version: str
    entry: CatalogueEntry
    tuned: TunedModel | None
    skus: tuple[str, ...]
    capacity: int
    capabilities: dict[str, str]
    is_default: bool
    retired: bool

    @property
    def created_at(self) -> datetime:
        return self.entry.created_at if self.tuned is None else self.tuned.created_at


@dataclass(frozen=True, slots=True)
class Usage:
    name: str
    shown: str
    current: int
    limit: int


@dataclass(frozen=True, slots=True)
class Room:
    """The capacity a model still has in a location with one SKU."""

    offer: Offer
    location: str
    sku_name: str
    available: int


class Offers:
    def __init__(self, store: Store, catalogue: Catalogue, clock: Clock, limits: Limits) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._limits = limits

    def base_models(self) -> list[Offer]:
        return [self._base(entry) for entry in self._catalogue.entries]

    def models(self, account_id: str) -> list[Offer]:
        """The base models, then the account's own whose base is still in the catalogue."""
        with self._store.begin() as tx:
            tuned = tx.models.list(account_id)
        own = [self._tuned(entry, model) for model in tuned if (entry := self._catalogue.entry(model.catalogue_name))]
        return [*self.base_models(), *own]

    def capabilities(self, catalogue_name: str) -> dict[str, str]:
        """What a deployment of it can do. Empty when the operator has removed it."""
        entry = self._catalogue.entry(catalogue_name)
        return {} if entry is None else self._abilities(entry)

    def skus(self, deployment: Deployment, account: Account) -> list[tuple[str, int]]:
        """The SKUs it can change to, its own first, with the most capacity each has left for it."""
        with self._store.begin() as tx:
            used = self._used(tx, account.subscription_id, account.location, but=(account.id, deployment.name))
        family = rules.family_of(self._catalogue, deployment.catalogue_name)
        names = rules.skus_of(tuned=deployment.checkpoint_id is not None)
        return [
            (sku, max(0, self._limits.quota - used.get((family, sku), 0)))
            for sku in sorted(names, key=lambda sku: sku != deployment.sku_name)
        ]

    def left(self, account: Account, catalogue_name: str, sku_name: str) -> int:
        """The capacity a new deployment of this model could have with this SKU."""
        family = rules.family_of(self._catalogue, catalogue_name)
        with self._store.begin() as tx:
            used = self._used(tx, account.subscription_id, account.location)
        return max(0, self._limits.quota - used.get((family, sku_name), 0))

    def usages_of_location(self, subscription_id: str, location: str) -> list[Usage]:
        """One for each family of models and SKU, used or not."""
        with self._store.begin() as tx:
            used = self._used(tx, subscription_id, location)
        families = list(dict.fromkeys([*(entry.family for entry in self._catalogue.entries), *(f for f, _ in used)]))
        return [
            Usage(
                f"OpenAI.{sku}.{family}",
                f"{rules.quota_name(family, sku)} - {sku}",
                used.get((family, sku), 0),
                self._limits.quota,
            )
            for family in families
            for sku in rules.skus_of(tuned=True)
        ]

    def usages_of_account(self, account_id: str) -> list[Usage]:
        with self._store.begin() as tx:
            use = tx.usages.of_account(account_id)
        limits = self._limits
        rows = (
            ("Deployments.Standard", "Standard deployments", use.standard_deployments, limits.standard_deployments),
            ("Deployments.FineTuned", "Deployments of fine-tuned models", use.tuned_deployments,
             limits.tuned_deployments),
            ("FineTuning.Jobs", "Fine-tuning jobs", use.jobs, limits.jobs),
            ("FineTuning.QueuedJobs", "Fine-tuning jobs that have not ended", use.unended_jobs, limits.queued_jobs),
            ("FineTuning.Files", "Fine-tuning files", use.tuning_files, limits.tuning_files),
            ("FineTuning.FileBytes", "Bytes of fine-tuning files", use.tuning_bytes, limits.tuning_bytes),
        )  # fmt: skip
        return [Usage(f"OpenAI.{name}", shown, current, limit) for name, shown, current, limit in rows]

    def rooms(self, subscription_id: str, locations: Sequence[str], name: str, version: str) -> list[Room]:
        """In each location and SKU; empty for a model that is not offered."""
        wanted = [
            offer
            for offer in self.base_models()
            if offer.name.lower() == name.lower() and version in ("", offer.version)
        ]
        rooms: list[Room] = []
        for location in locations:
            with self._store.begin() as tx:
                used = self._used(tx, subscription_id, location)
            rooms += [
                Room(offer, location, sku, max(0, self._limits.quota - used.get((offer.entry.family, sku), 0)))
                for offer in wanted
                for sku in offer.skus
            ]
        return rooms

    # --- inside -------------------------------------------------------------------------------------------------------

    def _used(
        self, tx: Session, subscription_id: str, location: str, *, but: tuple[str, str] | None = None
    ) -> dict[tuple[str, str], int]:
        sums: dict[tuple[str, str], int] = {}
        for used in tx.usages.capacity(subscription_id, location, but=but):
            key = rules.family_of(self._catalogue, used.catalogue_name), used.sku_name
            sums[key] = sums.get(key, 0) + used.capacity
        return sums

    def _base(self, entry: CatalogueEntry) -> Offer:
        versions = [other for other in self._catalogue.entries if other.family == entry.family]
        tunable = entry.tunable and self._is_before(entry.fine_tune_until)
        return Offer(
            name=entry.family,
            version=entry.version,
            entry=entry,
            tuned=None,
            skus=rules.skus_of(tuned=False),
            capacity=self._limits.quota,
            capabilities={"fineTune": _word(tunable), "inference": "true", **self._abilities(entry)},
            is_default=entry.short is not None or len(versions) == 1,
            retired=not self._is_before(entry.inference_until),
        )

    def _tuned(self, entry: CatalogueEntry, model: TunedModel) -> Offer:
        return Offer(
            name=model.name,
            version="1",
            entry=entry,
            tuned=model,
            skus=rules.skus_of(tuned=True),
            capacity=self._limits.quota,
            capabilities={"fineTune": "true", "inference": "true", **self._abilities(entry)},
            is_default=True,
            retired=not self._is_before(entry.inference_until),
        )

    def _abilities(self, entry: CatalogueEntry) -> dict[str, str]:
        base = self._catalogue.bases.get(entry.base)
        words = {"chatCompletion": entry.chat, "completion": entry.completion, "embeddings": entry.embeddings}
        found = {name: "true" for name, has in words.items() if has}
        if base is not None:
            found |= {"maxContextToken": str(base.max_tokens), "maxOutputToken": str(base.max_tokens)}
        return found

    def _is_before(self, day: date | None) -> bool:
        return day is None or self._clock.now() < datetime.combine(day, time.max, UTC)


def _word(truth: bool) -> str:
    return "true" if truth else "false"
