"""What following a JSON schema costs the embedded engine: python benchmarks/serve/structured.py --base FOLDER.

Decodes the same prompts with and without a schema in turns, without HTTP, and prints the median tokens a second of both
and their ratio, by batch size. The schema is of strings and numbers in objects in a list long enough that no answer
ends before `--tokens`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import threading
import time
from pathlib import Path

from tailorbird.protocol.generation import GenerationChunk, GenerationRequest, Structure
from tailorbird.serving.__main__ import Options, build
from tailorbird.serving.server import Api
from tailorbird.serving.tickets import Output

_ITEM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "count": {"type": "integer", "minimum": 0, "maximum": 99999},
        "kind": {"enum": ["table", "room", "car", "flight"]},
        "paid": {"type": "boolean"},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 40}, "minItems": 1, "maxItems": 4},
    },
    "required": ["name", "count", "kind", "paid", "notes"],
    "additionalProperties": False,
}
_SCHEMA = Structure("json_schema", json.dumps({"type": "array", "items": _ITEM, "minItems": 1000, "maxItems": 2000}))


def decode_speed(api: Api, batch: int, prompt: int, tokens: int, structure: Structure | None) -> float:
    """Tokens a second of all rows, from where each has one to where the first ends."""
    draw = random.Random(0)
    heard: list[list[float]] = [[] for _ in range(batch)]
    done = threading.Semaphore(0)

    def listen(row: int, output: Output) -> None:
        if isinstance(output, GenerationChunk):
            heard[row].append(time.perf_counter())
            if output.finish_reason is not None:
                done.release()

    grammar = None if structure is None else api.compiler.compile(structure).result()
    for row in range(batch):
        ids = [draw.randrange(api.model.vocab) for _ in range(prompt)]
        # Drawn, not greedy: every row goes its own way through the schema.
        request = GenerationRequest("base", ids, max_tokens=tokens, temperature=1.0, seed=row)
        api.engine.submit(request, None, lambda output, row=row: listen(row, output), grammar)
    for _ in range(batch):
        done.acquire()
    start, end = max(row[0] for row in heard), min(row[-1] for row in heard)
    return sum(start < when <= end for row in heard for when in row) / (end - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    given = Options(
        options.base, "base", dtype=options.dtype, device=options.device, threads=options.threads, max_batch=64
    )
    api = build(given)
    api.engine.end_ids = frozenset()  # no row ends before its time
    api.engine.start()
    print(f"{options.base.name}, {options.dtype}, {options.device}, vocabulary {api.model.vocab}")
    print(f"{'':8}{'plain tok/s':>14}{'schema tok/s':>14}{'ratio':>8}")
    for batch in options.batch:
        plain: list[float] = []
        schema: list[float] = []
        for turn in range(options.rounds + 1):
            for structure, speeds in ((None, plain), (_SCHEMA, schema)):
                speed = decode_speed(api, batch, options.prompt, options.tokens, structure)
                if turn:  # the first one warms up
                    speeds.append(speed)
        one, other = statistics.median(plain), statistics.median(schema)
        print(f"B={batch:<6}{one:14.0f}{other:14.0f}{other / one:8.2f}")
    api.engine.stop(10)
    api.compiler.close()


if __name__ == "__main__":
    main()
