"""The shape of every identifier (file-, upload_, ftjob-, ftchkpt-) and of fine-tuned model names.

Shapes as observed on Azure (`file-` + 32 hex digits) are used on every surface; OpenAI's own ids are opaque, so its
clients take them. Only checkpoints have another prefix there, and both are taken everywhere. Model names differ by
surface and are both stored: Azure `<base>.ft-<hex>[-suffix]`, OpenAI `ft:<base>:<org>:<suffix>:<short>`; a checkpoint
that is not the last appends `:ckpt-step-<n>` to either.
"""

from __future__ import annotations

import base64
import hashlib
import re

HEX_DIGITS = 32
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RESOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def file_id(hexdigits: str) -> str:
    return f"file-{hexdigits}"


def upload_id(hexdigits: str) -> str:
    return f"upload_{hexdigits}"


def part_id(hexdigits: str) -> str:
    return f"part_{hexdigits}"


def block_id(part: str) -> str:
    """A part's name in Azure's form, base64 of sixteen bytes."""
    return base64.b64encode(bytes.fromhex(part.removeprefix("part_"))).decode()


def job_id(hexdigits: str) -> str:
    return f"ftjob-{hexdigits}"


def checkpoint_id(job: str, step: int) -> str:
    """Derived, so that a repeated stage names the same checkpoint."""
    return f"ftchkpt-{_digest(f'{job}/checkpoint/{step}')}"


def openai_checkpoint_id(checkpoint: str) -> str:
    """The same checkpoint's id as OpenAI's surface writes it."""
    return "ftckpt_" + checkpoint.removeprefix("ftchkpt-")


def as_checkpoint_id(name: str) -> str:
    """What either surface calls a checkpoint, as it is stored; other names stay as they are."""
    return "ftchkpt-" + name.removeprefix("ftckpt_") if name.startswith("ftckpt_") else name


def event_id(job: str, key: str) -> str:
    """Derived, so that a repeated stage writes the same event."""
    return f"ftevent-{_digest(f'{job}/event/{key}')}"


def results_file_id(job: str) -> str:
    return file_id(_digest(f"{job}/results"))


def findings_file_id(job: str) -> str:
    return file_id(_digest(f"{job}/findings"))


def azure_model_name(base: str, job: str, suffix: str | None, step: int | None = None) -> str:
    """`step` None names the finished model, a number an earlier checkpoint of it."""
    name = f"{base}.ft-{_hex_of(job)}" + (f"-{suffix}" if suffix else "")
    return name if step is None else f"{name}:ckpt-step-{step}"


def openai_model_name(base: str, organization: str, job: str, suffix: str | None, step: int | None = None) -> str:
    name = f"ft:{base}:{organization}:{suffix or ''}:{_hex_of(job)[:8]}"
    return name if step is None else f"{name}:ckpt-step-{step}"


def is_suffix(text: str) -> bool:
    """1 to 64 of letters, digits, - and _; a dot separates base and job in Azure's names and is therefore refused."""
    return _SUFFIX.fullmatch(text) is not None


def is_resource_name(text: str) -> bool:
    """Names of accounts and deployments: 1 to 64 letters, digits, dots, - and _, beginning with a letter or digit."""
    return _RESOURCE_NAME.fullmatch(text) is not None


def _hex_of(job: str) -> str:
    return job.removeprefix("ftjob-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HEX_DIGITS]
