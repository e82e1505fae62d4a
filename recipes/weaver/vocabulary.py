"""Weaver's tokenizer: byte-level BPE whose words split the same with and without a space in front.

A usual byte-level BPE learns ``" harbor"`` and ``"harbor"`` apart, so that a name in a question and the same name
behind a quote are different pieces, and copying it means translating it. Here merges are learned inside words only; the
space stays its own piece unless the whole word is a frequent one, for which a last merge glues space and word.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from recipes.weaver.corpus import documents
from recipes.weaver.documents import spans

SIZE = 4096
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|tool_call|>", "<|/tool_call|>",
    "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>",
)  # fmt: skip
GLUED = 900
"""How many frequent words get a piece of their own that includes the space in front."""

WORD = r"\p{Lu}{2,}|\p{Lu}?\p{Ll}+|\p{Lu}|[\p{Lo}\p{Lm}\p{M}]+"
# Digits stand alone: numbers are copied digit by digit. Marks may run together, e.g. `=="` or `--`.
PIECES = rf" ?(?:{WORD})|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\p{{M}}]+|\s+(?!\S)|\s"
INSIDE = rf"{WORD}|\p{{N}}|[^\s\p{{L}}\p{{N}}\p{{M}}]+|\s"


def train(documents_read: int = 40_000, seed: int = 900) -> Tokenizer:
    """The tokenizer, trained on a corpus stream that pre-training does not use."""
    texts = [text for document in islice(documents(seed), documents_read) for text, _ in spans(document)]
    for mark in SPECIAL:
        texts = [text.replace(mark, "\n") for text in texts]
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = _split(INSIDE)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIAL) - GLUED,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    state = json.loads(inner.to_str())["model"]
    vocabulary: dict[str, int] = dict(state["vocab"])
    merges = [tuple(merge) for merge in state["merges"]]
    for piece in _frequent_after_space(inner, texts, set(vocabulary)):
        merges.append(("Ġ", piece))
        vocabulary["Ġ" + piece] = len(vocabulary)
    shifted = {piece: number + len(SPECIAL) for piece, number in vocabulary.items()}
    shifted = {mark: number for number, mark in enumerate(SPECIAL)} | shifted
    tokenizer = Tokenizer(models.BPE(vocab=shifted, merges=merges))
    tokenizer.pre_tokenizer = _split(PIECES)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    if tokenizer.get_vocab_size() != SIZE:
        raise ValueError(
            f"the vocabulary has {tokenizer.get_vocab_size()} pieces instead of {SIZE}: read more documents"
        )
    return tokenizer


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _frequent_after_space(inner: Tokenizer, texts: list[str], known: set[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for encoded in inner.encode_batch(texts[:: max(1, len(texts) // 60_000)]):
        pieces = encoded.tokens
        for index in range(1, len(pieces)):
            # A whole word only: a piece that goes on would be glued in front of the rest of its word.
            whole = index + 1 == len(pieces) or pieces[index + 1] in ("Ġ", "Ċ") or not pieces[index + 1].isalpha()
            if pieces[index - 1] == "Ġ" and whole and pieces[index] in known and pieces[index] not in ("Ġ", "Ċ"):
                counts[pieces[index]] += 1
    words = [piece for piece, _ in counts.most_common() if not piece.isdigit()]
    return words[:GLUED]


def export(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
        "additional_special_tokens": list(SPECIAL[1:5]),
        "model_max_length": 2048,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    template = Path(__file__).with_name("chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template)
