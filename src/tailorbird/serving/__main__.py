"""The engine's command: python -m tailorbird.serving --base FOLDER --served-name NAME."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer

from tailorbird.lm.loading import BaseModelError, base_facts
from tailorbird.protocol import logs
from tailorbird.protocol.parent import end_with_parent
from tailorbird.serving import server
from tailorbird.serving.adapters import Registry
from tailorbird.serving.forward import Decoder, Forward
from tailorbird.serving.metrics import Metrics
from tailorbird.serving.scheduler import Engine
from tailorbird.serving.stock import StockModel
from tailorbird.serving.structure import Compiler
from tailorbird.serving.tickets import Limits
from tailorbird.serving.weights import read_shape

log = logging.getLogger("tailorbird.serving")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. `threads` 0 leaves the choice to PyTorch; `cached_tokens` 0 means four full contexts."""

    base: Path
    served_name: str
    host: str = "127.0.0.1"
    port: int = 0
    port_file: Path | None = None
    dtype: str = "float32"
    device: str = "cpu"
    max_batch: int = 32
    max_adapters: int = 64
    step_tokens: int = 512
    cached_tokens: int = 0
    threads: int = 0
    exit_with_parent: int | None = None
    log_level: str = "info"


def read_options(arguments: list[str] | None = None) -> Options:
    defaults = Options(Path(), "")
    parser = argparse.ArgumentParser(prog="python -m tailorbird.serving", description=__doc__)
    add = parser.add_argument
    add("--base", type=Path, required=True, help="folder of the base model in Hugging Face format")
    add("--served-name", required=True, help="the base's name in requests")
    add("--host", default=defaults.host)
    add("--port", type=int, default=defaults.port, help="0 picks a free one")
    add("--port-file", type=Path, help="where the port is written once requests are answered")
    add("--dtype", choices=("float32", "bfloat16"), default=defaults.dtype)
    add("--device", default=defaults.device, help="cpu, cuda, cuda:1, ...")
    add("--max-batch", type=_count, default=defaults.max_batch, help="sequences computed at once")
    add(
        "--max-adapters",
        type=_count,
        default=defaults.max_adapters,
        help="beyond it the least recently used is dropped",
    )
    add("--step-tokens", type=_count, default=defaults.step_tokens, help="prompt tokens in one step")
    add("--cached-tokens", type=int, default=defaults.cached_tokens, help="keys and values held; 0: four full contexts")
    add("--threads", type=int, default=defaults.threads, help="of one operation; 0 leaves it to PyTorch")
    add(
        "--exit-with-parent",
        type=int,
        nargs="?",
        const=os.getppid(),
        metavar="PID",
        help="stop when the parent process (PID, if given) is gone",
    )
    add("--log-level", choices=("debug", "info", "warning", "error"), default=defaults.log_level)
    return Options(**vars(parser.parse_args(arguments)))


def build(options: Options) -> server.Api:
    """Loads the base and puts the engine together; nothing runs yet. Raises BaseModelError."""
    if options.threads:
        torch.set_num_threads(options.threads)
    dtype, device = cast(torch.dtype, getattr(torch, options.dtype)), torch.device(options.device)
    base_facts(options.base)  # a folder that holds no model is refused here, with the reason
    tokenizer = _read_tokenizer(options.base)
    model = _load(options, dtype, device)
    registry = Registry(model.targets, capacity=options.max_adapters, dtype=dtype, device=device)
    metrics = Metrics(registry, lambda: model.held)
    end_ids = _end_ids(options.base)
    engine = Engine(
        model,
        tokenizer,
        end_ids,
        Limits(batch=options.max_batch, step_tokens=options.step_tokens),
        device=device,
        observe=metrics.observe,
        on_failure=lambda: os.kill(os.getpid(), signal.SIGTERM),  # a supervisor starts a fresh one
    )
    compiler = Compiler(tokenizer, vocab=model.vocab, end_ids=end_ids)
    return server.Api(
        engine, model, tokenizer, compiler, registry, metrics, options.served_name, str(options.base), int(time.time())
    )


def _load(options: Options, dtype: torch.dtype, device: torch.device) -> Forward:
    shape = read_shape(options.base)
    if shape is None:
        context = base_facts(options.base).context
        return StockModel(options.base, context=context, dtype=dtype, device=device)
    cached = options.cached_tokens or 4 * shape.context
    return Decoder(options.base, shape, cached_tokens=cached, dtype=dtype, device=device)


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BaseModelError(f"{folder}: tokenizer.json is missing; the engine reads fast tokenizers only")
    return Tokenizer.from_file(str(path))


def _end_ids(folder: Path) -> frozenset[int]:
    """Tokens that end an answer, as transformers' generate knows them."""
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if path.is_file():
            config: dict[str, Any] = json.loads(path.read_text("utf-8"))
            ids: int | list[int] = config.get("eos_token_id") or []
            found |= {ids} if isinstance(ids, int) else set(ids)
    return frozenset(found)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is not a count")  # argparse turns it into a usage error
    return value


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or SIGINT, 1 when the base does not load or the engine broke, 2 for wrong arguments."""
    options = read_options(arguments)
    if options.exit_with_parent is not None:
        end_with_parent(options.exit_with_parent)

    def ready(port: int) -> None:
        log.info("the engine is ready", extra={"base": options.served_name, "url": f"http://{options.host}:{port}"})

    try:
        with server.listen(options.host, options.port) as listener:
            api = build(options)
            server.serve(api.app(), listener, options.port_file, ready)
    except (BaseModelError, OSError) as error:
        log.error("the engine does not start: %s", error, extra={"base": options.served_name})
        return 1
    return 1 if api.engine.broken else 0


if __name__ == "__main__":
    logs.set_up(read_options().log_level)
    logs.catch_the_rest()
    sys.exit(main())
