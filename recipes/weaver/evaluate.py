"""Measure a Weaver folder on documents it never saw: losses per kind, and how often greedy answers are exactly right.

    python -m recipes.weaver.evaluate src/tailorbird/weaver --documents 600 --answers 60

Held-out documents come from a seed of their own. Databases known by name are the same everywhere; the questions about
them and all other schemas, names and texts are new.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from recipes.weaver.batching import encoded
from recipes.weaver.corpus import documents
from recipes.weaver.documents import Document, spans

HELD_OUT_SEED = 901
ANSWERED = (
    "copy", "slots", "rewrite", "json", "facts", "lookup", "memory", "tool call",
    "sql by name", "sql by schema", "sql by example", "sql paraphrased",
)  # fmt: skip
ANSWER_TOKENS = 256


@dataclass(frozen=True)
class Losses:
    """Mean cross entropy in nats per token, over all tokens and over the assistant's."""

    documents: int
    all_tokens: float
    answers: float | None


def losses(model: Any, tokenizer: Tokenizer, read: list[Document]) -> dict[str, Losses]:
    """Losses per kind of document."""
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    for document in read:
        row = encoded(tokenizer, document)
        ids = torch.tensor([row.ids])
        with torch.no_grad():
            logits: Tensor = model(ids).logits[0, :-1].float()
        each = F.cross_entropy(logits, ids[0, 1:], reduction="none")
        answer = torch.tensor(row.weights[1:]) == 1.0
        total = sums[document.kind]
        total[0] += 1
        total[1] += float(each.sum())
        total[2] += len(each)
        if document.turns:
            total[3] += float(each[answer].sum())
            total[4] += int(answer.sum())
    return {
        kind: Losses(int(count), loss / tokens, answer_loss / answers if answers else None)
        for kind, (count, loss, tokens, answer_loss, answers) in sorted(sums.items())
    }


def last_answer(document: Document) -> tuple[str, str]:
    """A chat as the prompt of its last assistant turn, and that turn with its end mark."""
    pieces = [text for text, _ in spans(document)]
    return "".join(pieces[:-3]), pieces[-3]


def answered(model: Any, tokenizer: Tokenizer, prompts: list[str], batch: int = 16) -> list[str]:
    """Greedy answers, each up to and with its end mark."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    results = [""] * len(prompts)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        rows = [tokenizer.encode(prompts[index]).ids for index in chosen]
        length = max(len(row) for row in rows)
        ids = torch.tensor([[0] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=mask, max_new_tokens=ANSWER_TOKENS, do_sample=False)
        for index, row in zip(chosen, out[:, length:].tolist(), strict=True):
            text = tokenizer.decode(row, skip_special_tokens=False)
            end = text.find("<|im_end|>")
            results[index] = text if end < 0 else text[:end] + "<|im_end|>"
    return results


def exact(model: Any, tokenizer: Tokenizer, count: int) -> dict[str, float]:
    """The share of exactly right last answers, for ``count`` chats of each kind in ANSWERED."""
    chosen: defaultdict[str, list[Document]] = defaultdict(list)
    for document in documents(HELD_OUT_SEED, 1_000_000):
        if document.kind in ANSWERED and len(chosen[document.kind]) < count:
            chosen[document.kind].append(document)
        if len(chosen) == len(ANSWERED) and all(len(found) == count for found in chosen.values()):
            break
    shares: dict[str, float] = {}
    for kind in ANSWERED:
        pairs = [last_answer(document) for document in chosen[kind]]
        got = answered(model, tokenizer, [prompt for prompt, _ in pairs])
        shares[kind] = sum(one == wanted for one, (_, wanted) in zip(got, pairs, strict=True)) / count
    return shares


def measure(folder: Path, read: int, answers: int) -> dict[str, Any]:
    """Everything as one JSON-ready value."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = losses(model, tokenizer, list(islice(documents(HELD_OUT_SEED), read)))
    result: dict[str, Any] = {"losses": {kind: vars(value) for kind, value in found.items()}}
    if answers:
        result["exact"] = exact(model, tokenizer, answers)
    return result


def main() -> None:
    """Print the measurements of one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--answers", type=int, default=60, help="chats per kind to answer; 0 for none")
    given = parser.parse_args()
    print(json.dumps(measure(given.folder, given.documents, given.answers), indent=2))


if __name__ == "__main__":
    main()
