"""A base model from a Hugging Face folder, frozen and ready for a forward pass; its facts without its weights."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class BaseModelError(Exception):
    """The folder holds no model this library can load; the message names the folder and the reason."""


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What is known of a base model from its config and its safetensors headers.

    `parameters` counts stored numbers: a head tied to the embedding counts once. `context` is in tokens.
    """

    architecture: str
    parameters: int
    layers: int
    hidden: int
    vocab: int
    context: int


def base_facts(folder: str | Path) -> BaseFacts:
    """Reads headers only, so it costs milliseconds for a model of any size.

    Raises BaseModelError when the config or the safetensors files are missing or unreadable.
    """
    folder = Path(folder)
    config = _read_config(folder)
    text = cast(dict[str, Any], config.get("text_config", config))  # multi-modal families nest the language model

    def number(*names: str) -> int:
        for name in names:
            if isinstance(text.get(name), int):
                return text[name]
        raise BaseModelError(f"{folder / 'config.json'}: none of {', '.join(names)} is given")

    return BaseFacts(
        architecture=_architecture(folder, config),
        parameters=_count_parameters(folder),
        layers=number("num_hidden_layers", "n_layer"),
        hidden=number("hidden_size", "n_embd"),
        vocab=number("vocab_size"),
        context=number("max_position_embeddings", "n_positions"),
    )


def load_base(folder: str | Path, *, dtype: torch.dtype, device: str | torch.device = "cpu") -> PreTrainedModel:
    """The causal language model in `folder`, in eval mode, no parameter requiring a gradient.

    Nothing is fetched: the folder must hold all files. Raises BaseModelError with the reason when it does not load.
    """
    folder = Path(folder)
    config = _read_config(folder)
    _architecture(folder, config)
    from transformers import AutoModelForCausalLM  # costs seconds; base_facts must not pay them

    with _quiet():
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                attn_implementation=_attention(config),
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise BaseModelError(f"{folder}: {error}") from error
    model, report = cast(tuple["torch.nn.Module", dict[str, Any]], loaded)  # the stub forgets output_loading_info
    if report["missing_keys"]:  # transformers would go on with random numbers
        raise BaseModelError(f"{folder}: no weights for {', '.join(sorted(report['missing_keys'])[:3])}")
    frozen = model.eval().requires_grad_(False).to(device)
    return cast("PreTrainedModel", frozen)


def _attention(config: dict[str, Any]) -> str | None:
    # Soft-capped attention scores (Gemma 2) cannot be expressed in SDPA; transformers would drop the cap silently.
    # Of the others it takes SDPA for each architecture that has it (Bloom has not).
    text = cast(dict[str, Any], config.get("text_config", config))
    return "eager" if text.get("attn_logit_softcapping") else None


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BaseModelError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BaseModelError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise BaseModelError(f"{path}: not a JSON object")
    return cast(dict[str, Any], config)


def _architecture(folder: Path, config: dict[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise BaseModelError(f"{folder / 'config.json'}: `architectures` is missing")
    return str(cast(list[Any], names)[0])


def _count_parameters(folder: Path) -> int:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelError(f"{folder}: no *.safetensors file")
    total = 0
    for path in files:
        try:
            with safe_open(path, framework="numpy") as tensors:
                total += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise BaseModelError(f"{path}: {error}") from error
    return total


@contextmanager
def _quiet() -> Generator[None]:
    """Silences transformers' progress bars and hints while a model loads; an engine's log is no place for them."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
