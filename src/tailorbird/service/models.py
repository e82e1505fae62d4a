"""The catalogue of base models, and the models customers made of them."""

from __future__ import annotations

import dataclasses
import re
import threading
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, cast

from tailorbird.dataset.render import Renderer
from tailorbird.domain.access import Action
from tailorbird.domain.errors import Conflict, InvalidRequest, ModelNotFound
from tailorbird.domain.jobs import AutoRule, Checkpoint
from tailorbird.domain.models import BaseModel, CatalogueEntry, TunedModel
from tailorbird.service.audit import record, resource_in
from tailorbird.service.ports import Blobs, Clock, Session, Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALL_CHECKPOINTS = 10_000


class CatalogueError(ValueError):
    """The catalogue cannot be used; the message names every fault with its entry and field."""


class Catalogue:
    """What the operator offers: names customers use, and the weights behind each."""

    def __init__(self, entries: tuple[CatalogueEntry, ...], bases: dict[str, BaseModel]) -> None:
        self.entries = entries
        self.bases = bases
        self._by_name: dict[str, CatalogueEntry] = {}
        for entry in entries:
            for name in (entry.name, entry.short):
                if name is not None:
                    self._by_name[name.lower()] = entry
        self._renderers: dict[str, Renderer] = {}
        self._lock = threading.Lock()

    def entry(self, name: str) -> CatalogueEntry | None:
        """By canonical or short name; case does not matter, as on Azure."""
        return self._by_name.get(name.lower())

    def base(self, key: str) -> BaseModel:
        """Raises KeyError: keys come from entries, never from customers."""
        return self.bases[key]

    def renderer(self, base_key: str) -> Renderer:
        """Loaded once, on first use (a tokenizer takes some hundred milliseconds and megabytes)."""
        with self._lock:
            renderer = self._renderers.get(base_key)
            if renderer is None:
                renderer = Renderer.from_folder(Path(self.base(base_key).folder))
                self._renderers[base_key] = renderer
        return renderer


class Models:
    """`GET /models` and `DELETE /models/{model}`: catalogue entries and an account's fine-tuned models."""

    def __init__(self, store: Store, blobs: Blobs, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._catalogue = catalogue
        self._clock = clock

    def entry_of(self, model: CatalogueEntry | TunedModel) -> CatalogueEntry | None:
        """The entry itself, or that which a fine-tuned model came from; None when the operator has removed it since."""
        return model if isinstance(model, CatalogueEntry) else self._catalogue.entry(model.catalogue_name)

    def context_tokens(self, model: CatalogueEntry | TunedModel) -> int | None:
        """How many tokens prompt and answer may have together; None when its base has been removed."""
        base = self._catalogue.bases.get(model.base)
        return None if base is None else base.max_tokens

    def list(self, account_id: str) -> list[CatalogueEntry | TunedModel]:
        with self._store.begin() as session:
            tuned = session.models.list(account_id)
        return [*self._catalogue.entries, *tuned]

    def get(self, account_id: str, name: str) -> CatalogueEntry | TunedModel:
        """Raises ModelNotFound."""
        entry = self._catalogue.entry(name)
        if entry is not None:
            return entry
        with self._store.begin() as session:
            tuned = session.models.find(account_id, name)
        if tuned is None:
            raise model_not_found(name)
        return tuned

    def delete(self, account_id: str, name: str) -> None:
        """Removes a fine-tuned model with its adapters; the job stays, its checkpoints can no longer be deployed.

        Raises ModelNotFound, InvalidRequest for a base model and Conflict naming the deployments in the way.
        """
        if self._catalogue.entry(name) is not None:
            raise InvalidRequest(f"'{name}' is a base model; only fine-tuned models can be deleted.", param="model")
        with self._store.begin() as session:
            tuned = session.models.find(account_id, name)
            if tuned is None:
                raise model_not_found(name)
            checkpoints = session.jobs.checkpoints(tuned.job_id, after=None, limit=_ALL_CHECKPOINTS).items
            _refuse_when_deployed(session, name, checkpoints)
            session.models.delete(account_id, tuned.name)
            resource = resource_in(session, account_id, f"/models/{tuned.name}")
            record(session, self._clock.now(), Action.DELETE_MODEL, resource)
            for checkpoint in checkpoints:
                session.jobs.add_checkpoint(dataclasses.replace(checkpoint, deployable=False))
        # Rows first: an adapter without a row is waste, a row without its adapter a broken promise.
        for checkpoint in checkpoints:
            for key in self._blobs.list(checkpoint.adapter_key):
                self._blobs.delete(key)


def model_not_found(name: str) -> ModelNotFound:
    return ModelNotFound(f"The model `{name}` does not exist or you do not have access to it.", param="model")


def _refuse_when_deployed(session: Session, name: str, checkpoints: list[Checkpoint]) -> None:
    users = [
        f"'{deployment.name}'"
        for checkpoint in checkpoints
        if (deployment := session.deployments.of_checkpoint(checkpoint.id)) is not None
    ]
    if users:
        raise Conflict(
            f"The model '{name}' is served by deployment {', '.join(users)}; delete the deployment first.",
            param="model",
        )


# --- catalog.toml -----------------------------------------------------------------------------------------------------


def load_catalogue(path: Path, hub_cache: Path | None = None) -> Catalogue:
    """Reads the TOML file. `folder` is a path, a path relative to the file, or a hub id that is in `hub_cache`.

    Raises CatalogueError naming every fault at once, and OSError when the file cannot be read.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: {error}") from error
    cache = hub_cache or Path.home() / ".cache" / "huggingface" / "hub"
    reader = _Reader(path, cache, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    bases = {key: base for key, table in _tables(raw, "base", reader) if (base := reader.base(key, table))}
    entries = [entry for name, table in _tables(raw, "model", reader) if (entry := reader.entry(name, table, raw))]
    reader.check_names(entries)
    for stray in sorted(set(raw) - {"base", "model"}):
        reader.faults.append(f"[{stray}]: unknown section; known are base and model")
    if not reader.faults and not entries:
        reader.faults.append("[model]: at least one model is needed")
    if reader.faults:
        raise CatalogueError(f"{path}: {len(reader.faults)} fault(s)\n" + "\n".join(f"  {f}" for f in reader.faults))
    return Catalogue(tuple(entries), bases)


def _tables(raw: dict[str, Any], section: str, reader: _Reader) -> list[tuple[str, dict[str, Any]]]:
    tables: list[tuple[str, dict[str, Any]]] = []
    for key, table in raw.get(section, {}).items():
        if isinstance(table, dict):
            tables.append((key, cast("dict[str, Any]", table)))
        else:
            reader.faults.append(f"[{section}] {key}: must be a table, [{section}.{key}]")
    return tables


@dataclass
class _Reader:
    """Collects faults while it turns tables into values."""

    path: Path
    cache: Path
    written_at: datetime
    faults: list[str] = dataclasses.field(default_factory=list[str])

    def base(self, key: str, table: dict[str, Any]) -> BaseModel | None:
        section = _Section(f"[base.{key}]", table, self.faults)
        folder = self._folder(section, section.text("folder"))
        numbers = {
            "learning_rate": section.number("learning_rate"),
            "max_tokens": section.count("max_tokens"),
            "lora_rank": section.count("lora_rank", 16),
            "lora_alpha": section.count("lora_alpha", 32),
        }
        auto = self._auto(key, section.table("auto"))
        # 0 stands for a figure that is not there.
        rate = section.number("train_tokens_per_second", 0.0) if "train_tokens_per_second" in table else 0.0
        section.finish()
        if folder is None or auto is None or rate is None or None in numbers.values():
            return None
        return BaseModel(
            key=key,
            folder=str(folder),
            auto=auto,
            train_tokens_per_second=rate or None,
            **cast("dict[str, Any]", numbers),
        )

    def _auto(self, key: str, table: dict[str, Any]) -> AutoRule | None:
        section = _Section(f"[base.{key}.auto]", table, self.faults)
        default = AutoRule()
        before = len(self.faults)
        fraction = section.number("batch_fraction", default.batch_fraction)
        counts = {
            name: section.count(name, getattr(default, name))
            for name in ("min_batch_size", "max_batch_size", "seen_examples", "min_epochs", "max_epochs")
        }
        section.finish()
        for what in ("batch_size", "epochs"):
            low, high = counts[f"min_{what}"], counts[f"max_{what}"]
            if low is not None and high is not None and low > high:
                self.faults.append(f"{section.title} min_{what}: {low} is above max_{what}, {high}")
        if len(self.faults) > before:
            return None
        return AutoRule(batch_fraction=cast("float", fraction), **cast("dict[str, int]", counts))

    def entry(self, name: str, table: dict[str, Any], raw: dict[str, Any]) -> CatalogueEntry | None:
        section = _Section(f'[model."{name}"]', table, self.faults)
        before = len(self.faults)
        if _NAME.fullmatch(name) is None:
            self.faults.append(f"{section.title}: a name has up to 100 letters, digits, dots, - and _")
        base = section.text("base")
        if base is not None and base not in raw.get("base", {}):
            self.faults.append(f"{section.title} base: there is no [base.{base}]")
        short = section.text("short", "") or None
        version = section.text("version", "1")
        chat = section.flag("chat", True)
        embeddings = section.flag("embeddings", False)
        completion = section.flag("completion", not chat and not embeddings)
        if not (chat or completion or embeddings):
            self.faults.append(
                f"{section.title}: chat, completion and embeddings are all false; nothing could be asked of it"
            )
        created, fine_tune, inference = (section.day(key) for key in ("created", "fine_tune_until", "inference_until"))
        section.finish()
        if len(self.faults) > before:
            return None
        return CatalogueEntry(
            name=name,
            base=cast("str", base),
            short=short,
            version=cast("str", version),
            chat=chat,
            completion=completion,
            created_at=self._created_at(created, cast("str", version)),
            fine_tune_until=fine_tune,
            inference_until=inference,
            embeddings=embeddings,
        )

    def check_names(self, entries: list[CatalogueEntry]) -> None:
        owners: dict[str, str] = {}
        for entry in entries:
            for name in {entry.name.lower(), (entry.short or entry.name).lower()}:
                first = owners.setdefault(name, entry.name)
                if first != entry.name:
                    self.faults.append(f'[model."{entry.name}"]: the name \'{name}\' is taken by [model."{first}"]')

    def _created_at(self, created: date | None, version: str) -> datetime:
        """A model's age: as stated, else its version when that is a date, else the catalogue's own."""
        if created is None:
            try:
                created = date.fromisoformat(version) if "-" in version else None
            except ValueError:
                created = None
        return self.written_at if created is None else datetime.combine(created, time(), UTC)

    def _folder(self, section: _Section, text: str | None) -> Path | None:
        if text is None:
            return None
        beside = (self.path.parent / Path(text).expanduser()).resolve()
        if beside.is_dir():
            return beside
        # The hub's cache: models--org--name/refs/main names the folder below snapshots/.
        cached = self.cache / f"models--{text.replace('/', '--')}"
        revision = cached / "refs" / "main"
        if revision.is_file():
            snapshot = cached / "snapshots" / revision.read_text(encoding="utf-8").strip()
            if snapshot.is_dir():
                return snapshot
        self.faults.append(f"{section.title} folder: {text!r} is no folder ({beside}) and no hub id in {self.cache}")
        return None


class _Section:
    """One table, each key asked for once; `finish` reports keys nobody asked for."""

    def __init__(self, title: str, table: dict[str, Any], faults: list[str]) -> None:
        self.title = title
        self._table = dict(table)
        self._faults = faults
        self._known: list[str] = []

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self._take(key, default)
        return self._checked(key, value, "a string", isinstance(value, str) and (value != "" or value == default))

    def number(self, key: str, default: float | None = None) -> float | None:
        value = self._take(key, default)
        good = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        return self._checked(key, value, "a number above 0", good)

    def count(self, key: str, default: int | None = None) -> int | None:
        value = self._take(key, default)
        good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return self._checked(key, value, "a whole number above 0", good)

    def flag(self, key: str, default: bool) -> bool:
        value = self._take(key, default)
        return bool(self._checked(key, value, "true or false", isinstance(value, bool)))

    def day(self, key: str) -> date | None:
        value = self._take(key, None)
        if value is None:
            return None
        if isinstance(value, datetime):
            value = value.date()
        return self._checked(key, value, "a date (2026-12-31)", isinstance(value, date))

    def table(self, key: str) -> dict[str, Any]:
        value = self._take(key, {})
        return self._checked(key, value, "a table", isinstance(value, dict)) or {}

    def finish(self) -> None:
        for key in self._table:
            self._faults.append(f"{self.title} {key}: unknown; known are {', '.join(sorted(self._known))}")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._table.pop(key, default)

    def _checked(self, key: str, value: Any, wanted: str, good: bool) -> Any:
        if good:
            return value
        self._faults.append(f"{self.title} {key}: " + ("missing" if value is None else f"{value!r} is not {wanted}"))
        return None
