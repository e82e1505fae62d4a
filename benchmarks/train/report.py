"""The tables of the training comparison, from its records, and the page of the documentation that shows them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- tables: written by benchmarks/train/compare.py --page -->", "<!-- end of the tables -->"
_OURS = "ours"
_HEAD = (
    "side",
    "n",
    "s/step",
    "examples/s",
    "target tokens/s",
    "computed tokens/s",
    "ours is faster by",
    "peak MB",
    "fraction of limit",
    "versions",
    "options",
)


def timed(result: dict[str, Any], name: str = "seconds") -> list[float]:
    """Of the steps after the first one, which warms up."""
    return result[name][1:]


def ceiling(record: dict[str, Any]) -> float | None:
    """The fastest matrix product beside any of our steps of the case, in operations a second."""
    ours = record["sides"].get(_OURS, {}).get("result")
    return max(ours["ceilings"]) if ours else None


def ratios(record: dict[str, Any], name: str) -> list[float]:
    """How many times longer the side took than ours for the same rows, step by step."""
    ours = record["sides"].get(_OURS, {}).get("result")
    if not ours:
        return []
    pairs = zip(timed(record["sides"][name]["result"]), timed(ours), strict=False)
    return [theirs / our for theirs, our in pairs]


def fraction(record: dict[str, Any], name: str) -> float | None:
    """Of the operations the machine could have done in the time, those the rows need, each token's once."""
    ours, peak = record["sides"].get(_OURS, {}).get("result"), ceiling(record)
    if not ours or not peak:
        return None
    seconds = timed(record["sides"][name]["result"])
    needed = timed(ours, "operations")
    shares = [operations / (one * peak) for operations, one in zip(needed, seconds, strict=False)]
    return statistics.median(shares) if shares else None


def largest_loss_difference(record: dict[str, Any]) -> float | None:
    """Between any two sides at the same step, relative: the same work gives the same loss."""
    known = [side["result"]["losses"] for side in record["sides"].values() if "result" in side]
    spreads = [(max(step) - min(step)) / max(step) for step in zip(*known, strict=False)]
    return max(spreads) if spreads and len(known) > 1 else None


def row(record: dict[str, Any], name: str) -> list[str]:
    side = record["sides"][name]
    options = json.dumps(side["options"]) if side["options"] else "-"
    if "failure" in side:
        reason = side["failure"].replace("|", "/")
        return [name, "0", f"no figure: {reason}", *[""] * (len(_HEAD) - 4), options]
    result = side["result"]
    seconds, tokens = timed(result), timed(result, "tokens")
    targets = record["targets"][: len(seconds)]
    faster = "-" if name == _OURS else _spread(ratios(record, name))
    share = fraction(record, name)
    return [
        name,
        str(len(seconds)),
        f"{statistics.median(seconds):.2f}",
        f"{_per_second([record['case']['batch']] * len(seconds), seconds):.2f}",
        f"{_per_second(targets, seconds):.0f}",
        f"{_per_second(tokens, seconds):.0f}",
        faster,
        f"{result['peak_mb']:.0f}",
        "-" if share is None else f"{share:.2f}",
        ", ".join(f"{module} {version}" for module, version in result["versions"].items()),
        options,
    ]


def table(record: dict[str, Any]) -> list[str]:
    conditions, peak = record["conditions"], ceiling(record)
    facts = [conditions["dtype"], f"{conditions['threads']} thread(s)"]
    if conditions["layers"]:
        facts.append(f"cut to {conditions['layers']} layers")
    if peak:
        facts.append(f"limit measured beside the steps: {peak / 1e9:.0f} G operations/s")
    lines = [f"### {record['name']}", "", "; ".join(facts) + ".", ""]
    lines += [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(row(record, name)) for name in record["sides"]]
    difference = largest_loss_difference(record)
    if difference is not None:
        lines += ["", f"Largest relative difference of a loss between any two sides: {difference:.1e}."]
    tried = sum("seconds" in one for one in record["sweep"])
    if tried:
        lines += ["", f"Options tried to the end before, one step each: {tried}."]
    return [*lines, ""]


def document(records: Sequence[dict[str, Any]]) -> list[str]:
    """All tables, under what they were measured on."""
    if not records:
        return ["Not run yet."]
    where = sorted({f"{record['machine']}, measured {record['day']}" for record in records})
    return [*(f"{one}." for one in where), "", *(line for record in records for line in table(record))]


def write_page(page: Path, records: Sequence[dict[str, Any]]) -> None:
    """Puts the tables between the page's two markers."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no two markers for the tables")
    tables = "\n".join(document(records)).strip()
    page.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def _per_second(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """The median over steps."""
    return statistics.median(amount / one for amount, one in zip(amounts, seconds, strict=True))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
