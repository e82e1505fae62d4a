"""Prints how fast a training file is judged, in MB/s on one core: `python benchmarks/dataset/validate.py [--mb 100]`.

The file is made of chat lines of half a kilobyte to two kilobytes: a system prompt, one to four rounds, letters beyond
ASCII and escapes in one line out of four, tool calls in one out of twenty. It is read from disk, as an upload is.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tailorbird.dataset.validate import validate_stream

WORDS = re.findall(
    r"\w+",
    """the order was sent on Monday and should arrive within three days please check whether your address is right we
    are sorry to hear that invoice number customer account refund delivery status has been updated thank you""",
)
ORDER = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "The state of an order.",
        "parameters": {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]},
    },
}


def line(source: random.Random) -> bytes:
    def text(least: int, most: int) -> str:
        words = " ".join(source.choice(WORDS) for _ in range(source.randint(least, most)))
        return f'{words}.\n"Grüße" – 東京' if source.random() < 0.1 else f"{words}."

    messages: list[dict[str, Any]] = [{"role": "system", "content": "You answer customers of a shop, briefly. " * 2}]
    for number in range(source.randint(1, 4)):
        messages.append({"role": "user", "content": text(15, 50)})
        if source.random() < 0.02:
            call = {
                "id": f"c{number}",
                "type": "function",
                "function": {"name": "get_order", "arguments": '{"number": "1"}'},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"c{number}", "content": text(5, 20)})
        messages.append({"role": "assistant", "content": text(20, 90)})
    row: dict[str, Any] = {"messages": messages}
    if any("tool_calls" in message for message in messages):
        row["tools"] = [ORDER]
    return json.dumps(row, ensure_ascii=source.random() < 0.5).encode() + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=100, help="size of the file")
    size = parser.parse_args().mb * 1_000_000
    source = random.Random(1)
    lines = [line(source) for _ in range(20_000)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.jsonl"
        with path.open("wb") as file:
            written = 0
            while written < size:
                written += file.write(source.choice(lines))
        mean = sum(map(len, lines)) / len(lines)
        began = time.process_time()
        with path.open("rb") as file:
            report = validate_stream(iter(lambda: file.read(2**20), b""))
        seconds = time.process_time() - began
    if not report.ok:
        sys.exit(f"the file should be valid: {report.problems[0]}")
    print(f"{written / 1e6:.0f} MB, {report.examples} lines of {mean:.0f} bytes: {written / 1e6 / seconds:.0f} MB/s")


if __name__ == "__main__":
    main()
