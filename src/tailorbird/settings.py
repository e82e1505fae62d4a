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
from urllib.parse import urlsplit

from tailorbird.domain.files import MAX_FILE_BYTES, MAX_FILES, MAX_FILES_BYTES
from tailorbird.domain.safety import Thresholds
from tailorbird.domain.uploads import LIFE_SECONDS

PREFIX = "TAILORBIRD_"
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


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
    prices: str = _setting("", "Path of the price list (TOML); empty: the one that comes with the package.")
    calibrate: bool = _setting(
        True,
        "Whether an idle worker measures how fast a base model trains when an estimate asks and no job has shown it.",
    )
    host: str = _setting("127.0.0.1", "Address the data plane listens on. Loopback unless told otherwise.")
    port: int = _setting(8080, "Port of the data plane (http); 0 picks a free one.")
    arm_port: int = _setting(
        9443, "Port of the control plane (https, certificate of the local CA); 0 picks a free one."
    )
    public_host: str = _setting(
        "localhost", "Host name clients use for the control plane; it stands in the certificate and in the answers."
    )
    studio: bool = _setting(True, "Whether the server has the Studio, the web pages at `/studio/`.")
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
    worker_jobs: int = _setting(1, "Fine-tuning jobs one worker process works on at the same time.")
    jobs_together: int = _setting(
        1,
        "Fine-tuning jobs of one base model that train side by side in one process; such a group counts as one of "
        "`worker_jobs`. 1 gives each job its own.",
    )
    save_every: int = _setting(20, "Optimizer steps between two resume points of a run.")
    train_threads: int = _setting(
        1, "Threads of the trainer; 1 is best for the small built-in base, 0 leaves it to PyTorch."
    )
    train_processes: int = _setting(
        1,
        "Processes that share the work of one job, on the worker's machine: one for each GPU, or for each part of the "
        "cores. Not together with `jobs_together`.",
    )
    max_attempts: int = _setting(5, "A job whose trainer crashed this often fails.")
    prove_tolerance: float = _setting(
        0.0,
        "Largest difference in nats between trainer and engine on a probe token before a job fails its proof; "
        "0: 0.001 with float32, 0.2 with bfloat16.",
    )
    max_file_bytes: int = _setting(MAX_FILE_BYTES, "Largest file that can be uploaded, in bytes.")
    max_files: int = _setting(MAX_FILES, "Fine-tuning files one account may have.")
    max_files_bytes: int = _setting(MAX_FILES_BYTES, "What an account's fine-tuning files may hold together, in bytes.")
    max_upload_bytes: int = _setting(
        MAX_FILE_BYTES,
        "Largest multi-part upload, in bytes; a fine-tuning file is also bounded by TAILORBIRD_MAX_FILE_BYTES.",
    )
    upload_seconds: float = _setting(
        float(LIFE_SECONDS), "A multi-part upload that is not completed so long after its creation expires."
    )
    import_hosts: str = _setting(
        "", "Hosts files may be imported from, `example.com,*.blob.core.windows.net`; empty: every public host."
    )
    import_private: bool = _setting(
        False, "Also import from private and loopback addresses, and over http; for tests and closed networks."
    )
    max_queued_jobs: int = _setting(20, "Fine-tuning jobs of one account that may wait for training.")
    max_running_jobs: int = _setting(3, "Fine-tuning jobs of one account that are worked on at the same time.")
    max_jobs: int = _setting(100, "Fine-tuning jobs one account may have in all, ended ones included.")
    max_job_tokens: int = _setting(2_000_000_000, "Tokens of the training file times epochs that one job may have.")
    max_job_hours: float = _setting(
        720.0, "A fine-tuning job that has been running for so long, without pauses, fails."
    )
    max_deployments: int = _setting(32, "Standard deployments one account may have.")
    max_tuned_deployments: int = _setting(10, "Deployments of fine-tuned models one account may have.")
    quota_capacity: int = _setting(
        1000,
        "Capacity (thousand tokens per minute) one model may have in a location with one SKU, summed over accounts.",
    )
    rate_limits: bool = _setting(
        True,
        "Whether a deployment's capacity limits its tokens and requests per minute; each server counts for itself.",
    )
    idle_days: float = _setting(
        15.0, "Deployments of fine-tuned models older than this and unused for so long are deleted; 0: never."
    )
    developer_hours: float = _setting(
        24.0, "Deployments with the SKU DeveloperTier are deleted this long after their creation; 0: never."
    )
    python_graders: bool = _setting(
        False, "Run customers' Python graders, in a bubblewrap sandbox without network and files."
    )
    max_accounts: int = _setting(30, "Accounts one subscription may have in one location.")
    oidc_issuers: str = _setting(
        "",
        "Outside OpenID Connect issuers whose tokens are taken, `https://issuer|audience,…`; roles are assigned to a "
        "token's `oid`, or its `sub`.",
    )
    sweep_seconds: float = _setting(
        60.0, "How often the server looks for what has expired: files, uploads, deployments."
    )
    moderator: str = _setting(
        "none",
        "What judges training data, fine-tuned models and filtered chats: `builtin` (read its card first), "
        "`openai:URL` (any `/moderations` endpoint), `guard:BASE[:llama-guard|shieldgemma]` (a guard model on the "
        "engine of that base), or `none`.",
    )
    moderator_key: str = _setting("", "Key of the moderation endpoint.")
    moderator_model: str = _setting("", "Model the moderation endpoint shall use; empty: its own choice.")
    moderator_patience: float = _setting(
        900.0, "Seconds a job waits for a moderator that does not answer before it fails, uncharged."
    )
    safety_threshold: str = _setting(
        "medium",
        "Severity from which content is harmful: low, medium or high, with exceptions as in `medium,violence=high`. "
        "Accounts cannot change it.",
    )
    max_harm_rate: float = _setting(
        0.2, "A fine-tuned model that answers a larger share of simulated conversations harmfully is not deployable."
    )
    metrics_public: bool = _setting(
        False, "Show `/metrics` of server and worker to every address, and not to this machine only."
    )
    worker_metrics_port: int = _setting(0, "Port of the worker's `/metrics`; 0: none.")
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
    def import_host_list(self) -> list[str]:
        return [part.strip() for part in self.import_hosts.split(",") if part.strip()]

    @property
    def engines(self) -> dict[str, str]:
        """Base key to URL. Raises ValueError when the setting is not `key=url,key=url`."""
        pairs = [part.strip() for part in self.engine_urls.split(",") if part.strip()]
        bad = [pair for pair in pairs if "=" not in pair]
        if bad:
            raise ValueError(f"engine_urls: {bad[0]!r} is not of the form base=url")
        return {key.strip(): url.strip().rstrip("/") for key, url in (pair.split("=", 1) for pair in pairs)}

    @property
    def processes_per_job(self) -> int:
        """Raises ValueError when it is no count, or jobs share a process at the same time."""
        if self.train_processes < 1 or (self.train_processes > 1 and self.jobs_together > 1):
            raise ValueError(
                f"train_processes: {self.train_processes} must be 1 or more, and 1 where jobs_together is above 1"
            )
        return self.train_processes

    @property
    def moderation(self) -> tuple[str, str, str]:
        """The kind of moderator, its URL or base model, and a guard's format. Raises ValueError naming the setting."""
        kind, _, rest = self.moderator.partition(":")
        if kind in ("builtin", "none") and not rest:
            return kind, "", ""
        if kind == "openai" and urlsplit(rest).scheme in ("http", "https"):
            return kind, rest, ""
        base, _, form = rest.partition(":")
        form = form or "llama-guard"
        if kind == "guard" and base and form in ("llama-guard", "shieldgemma"):
            return kind, base, form
        raise ValueError(
            f"moderator: {self.moderator!r} is none of builtin, none, openai:https://…/v1, "
            "guard:BASE[:llama-guard|shieldgemma]"
        )

    @property
    def thresholds(self) -> Thresholds:
        """Raises ValueError naming the setting."""
        try:
            return Thresholds.parse(self.safety_threshold)
        except ValueError as error:
            raise ValueError(f"safety_threshold: {error}") from error

    @property
    def issuers(self) -> list[tuple[str, str]]:
        """Issuer URL and audience. Raises ValueError when the setting is not `https://issuer|audience,…`."""
        return [_issuer(part) for part in self.oidc_issuers.split(",") if part.strip()]


def _issuer(text: str) -> tuple[str, str]:
    url, _, audience = (part.strip() for part in text.partition("|"))
    address = urlsplit(url)
    if not address.hostname or not audience:
        raise ValueError(f"oidc_issuers: {text!r} is not of the form https://issuer|audience")
    if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"oidc_issuers: {url!r} must be https: its keys decide who comes in")
    return url, audience


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
        return _TRUTH[text.strip().lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        wanted = "true or false" if kind is bool else kind.__name__
        raise ValueError(f"{PREFIX}{name.upper()}: {text!r} is not {wanted}") from None
