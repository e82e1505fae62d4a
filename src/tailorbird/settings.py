"""Every setting, its default and its help line; the only reader of the environment.

`TAILORBIRD_<NAME>` in the environment sets a value; command-line options of the same name win. `docs/settings.md` is
made from this table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from tailorbird.domain.files import MAX_FILE_BYTES

PREFIX = "TAILORBIRD_"


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: str = _setting(
        "tailorbird-data", "Folder for everything this machine keeps: database, blobs, run folders, certificates."
    )
    database_url: str = _setting(
        "", "SQLAlchemy URL, `postgresql+psycopg://…` or `sqlite:///…`; empty: `DATA_DIR/tailorbird.db` in WAL mode."
    )
    blob_url: str = _setting(
        "", "Where bytes live: a folder, `s3://…`, `az://…` or `memory://`; empty: `DATA_DIR/blobs`."
    )
    catalog: str = _setting("", "Path of the model catalogue (TOML); empty: the one that comes with the package.")
    host: str = _setting("127.0.0.1", "Address the data plane listens on. Loopback unless told otherwise.")
    port: int = _setting(8080, "Port of the data plane (http); 0 picks a free one.")
    arm_port: int = _setting(
        9443, "Port of the control plane (https, certificate of the local CA); 0 picks a free one."
    )
    public_host: str = _setting(
        "localhost", "Host name clients use for the control plane; it stands in the certificate and in the answers."
    )
    organization: str = _setting(
        "tailorbird", "The organization part of OpenAI-style model names (`ft:base:organization:…`)."
    )
    engine_urls: str = _setting(
        "", "Engines by base model, `weaver=http://127.0.0.1:8000,…`; `up` starts and fills in what is missing."
    )
    engine_dtype: str = _setting("float32", "Precision of the embedded engine and of training: float32 or bfloat16.")
    engine_max_batch: int = _setting(16, "Sequences the embedded engine computes together.")
    engine_threads: int = _setting(
        1, "Threads of the embedded engine; 1 is best for the small built-in base, 0 leaves it to PyTorch."
    )
    lease_seconds: float = _setting(15.0, "A worker that has not beaten its job's lease for so long has lost it.")
    poll_seconds: float = _setting(0.5, "How often an idle worker looks for a job.")
    save_every: int = _setting(20, "Optimizer steps between two resume points of a run.")
    train_threads: int = _setting(
        1, "Threads of the trainer; 1 is best for the small built-in base, 0 leaves it to PyTorch."
    )
    max_attempts: int = _setting(5, "A job whose trainer crashed this often fails.")
    prove_tolerance: float = _setting(
        0.0,
        "Largest difference in nats between trainer and engine on a probe token before a job fails its proof; "
        "0: 0.001 with float32, 0.2 with bfloat16.",
    )
    max_file_bytes: int = _setting(MAX_FILE_BYTES, "Largest file that can be uploaded, in bytes.")
    max_queued_jobs: int = _setting(20, "Unended fine-tuning jobs one account may have.")
    log_level: str = _setting("info", "debug, info, warning or error; logs are JSON lines on stderr.")

    @property
    def folder(self) -> Path:
        return Path(self.data_dir).resolve()

    @property
    def resolved_database_url(self) -> str:
        return self.database_url or f"sqlite:///{self.folder / 'tailorbird.db'}"

    @property
    def resolved_blob_url(self) -> str:
        return self.blob_url or str(self.folder / "blobs")

    @property
    def resolved_prove_tolerance(self) -> float:
        return self.prove_tolerance or (0.2 if self.engine_dtype == "bfloat16" else 0.001)

    @property
    def engines(self) -> dict[str, str]:
        """Base key to URL. Raises ValueError when the setting is not `key=url,key=url`."""
        pairs = [part.strip() for part in self.engine_urls.split(",") if part.strip()]
        bad = [pair for pair in pairs if "=" not in pair]
        if bad:
            raise ValueError(f"engine_urls: {bad[0]!r} is not of the form base=url")
        return {key.strip(): url.strip().rstrip("/") for key, url in (pair.split("=", 1) for pair in pairs)}


def load(options: Mapping[str, object], environment: Mapping[str, str] | None = None) -> Settings:
    """Defaults, then the environment, then `options` that are not None. Raises ValueError naming the setting."""
    source = os.environ if environment is None else environment
    types = get_type_hints(Settings)
    values: dict[str, Any] = {}
    known = {f.name for f in dataclasses.fields(Settings)}
    unknown = sorted(
        name for name in source if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in known
    )
    if unknown:
        raise ValueError(f"{unknown[0]} is not a setting; the names are in docs/settings.md")
    for name in known:
        text = source.get(PREFIX + name.upper())
        option = options.get(name)
        if option is not None:
            values[name] = option
        elif text is not None:
            values[name] = _parse(name, text, types[name])
    return Settings(**values)


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process load the same settings."""
    return {PREFIX + f.name.upper(): str(getattr(settings, f.name)) for f in dataclasses.fields(Settings)}


def as_markdown() -> str:
    """The text of docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made from `src/tailorbird/settings.py` by `make docs`; a test compares the two. Set each as an environment",
        "variable; command-line options of the same name win.",
        "",
        "| variable | default | meaning |",
        "| --- | --- | --- |",
    ]
    for f in dataclasses.fields(Settings):
        default = f"`{f.default}`" if f.default != "" else "(empty)"
        lines.append(f"| `{PREFIX}{f.name.upper()}` | {default} | {f.metadata['help']} |".replace("…|", "… |"))
    return "\n".join(lines) + "\n"


def _parse(name: str, text: str, kind: Any) -> object:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{PREFIX}{name.upper()}: {text!r} is not {kind.__name__}") from None
