"""Structured output: a form compiled once, followed token by token, masking what would break it (llguidance)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch
import torch.nn.functional as F
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer
from torch import Tensor

from tailorbird.protocol.generation import Structure

_KEPT = 256  # compiled structures; one of a usual schema is tens of kilobytes
_COMPILERS = 2  # threads; a schema that takes seconds holds up one of them and never the engine's own
# JSON allows endless space between tokens, and a small model may take it at its word until max_tokens.
_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,32}"
_ANY_OBJECT = '{"type": "object"}'


class StructureRefused(Exception):
    """The structure cannot be followed; the message says why."""


class Guide:
    """Where one choice stands in its structure. Used by the engine's thread alone."""

    def __init__(self, matcher: LLMatcher, width: int, end_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._end_ids = end_ids
        self.width = width
        """Tokens that `fill` speaks of; at least the logits' vocabulary."""

    @property
    def finished(self) -> bool:
        """The structure is complete and nothing can follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def fault(self) -> str:
        """Why the structure cannot be followed any further; empty while all is well."""
        return _reason(self._matcher) if self._matcher.is_error() else ""

    def fill(self, words: Tensor) -> None:
        """Writes the tokens that may come next as bits of `words` [width / 32] int32, on the CPU.

        The request's own end tokens may come wherever the structure is complete.
        """
        self._matcher.unsafe_compute_mask_ptr(words.data_ptr(), words.numel() * words.element_size())
        if self._end_ids and self._matcher.is_accepting():
            octets = words.view(torch.uint8)
            for token in self._end_ids:
                octets[token // 8] |= 1 << token % 8

    def take(self, token: int) -> None:
        """The token was drawn. One that does not fit shows as a `fault`."""
        self._matcher.consume_token(token)


class Grammar:
    """A compiled structure, from which any number of choices start."""

    def __init__(self, matcher: LLMatcher, width: int) -> None:
        self._matcher = matcher
        self._width = width

    def start(self, end_ids: Sequence[int]) -> Guide:
        return Guide(self._matcher.deep_copy(), self._width, end_ids)


class Compiler:
    """Compiles structures on threads of its own and keeps the latest ones. Safe to call from any thread."""

    def __init__(self, tokenizer: Tokenizer, *, vocab: int, end_ids: Collection[int]) -> None:
        self._source = tokenizer
        self._vocab = vocab
        self._end_ids = sorted(end_ids)
        self._tokens: LLTokenizer | None = None
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._kept: OrderedDict[Structure, Future[Grammar]] = OrderedDict()
        self._pool = ThreadPoolExecutor(_COMPILERS, thread_name_prefix="structure")

    def compile(self, structure: Structure) -> Future[Grammar]:
        """The same structure asked twice is compiled once. The future raises StructureRefused."""
        with self._lock:
            found = self._kept.get(structure)
            if found is None:
                found = self._kept[structure] = self._pool.submit(self._compile, structure)
            self._kept.move_to_end(structure)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _compile(self, structure: Structure) -> Grammar:
        tokens = self._read_tokens()
        try:
            matcher = LLMatcher(tokens, _grammar(structure), log_level=0, limits=_limits())
        except ValueError as error:  # a schema that is no JSON object
            raise StructureRefused(str(error)) from error
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first one builds tables that all copies share
        if matcher.is_error():
            raise StructureRefused(_reason(matcher))
        return Grammar(matcher, tokens.vocab_size)

    def _read_tokens(self) -> LLTokenizer:
        """The vocabulary as llguidance wants it, made when the first structure is asked for: a second's work."""
        with self._reading:
            if self._tokens is None:
                # As wide as the logits: rows that pad the vocabulary stand for no text and are never allowed.
                width = max(self._vocab, self._source.get_vocab_size(with_added_tokens=True))
                try:
                    self._tokens = LLTokenizer(
                        self._source.to_str(), n_vocab=width, eos_token=self._end_ids if self._end_ids else None
                    )
                except (ValueError, RuntimeError) as error:
                    raise StructureRefused(f"This model's tokenizer cannot follow a structure: {error}") from error
            return self._tokens


def _limits() -> LLParserLimits:
    """What one token of a structure may cost the batch.

    With llguidance's own limit of 50,000 items an ambiguous grammar held a step up for a second, with 10,000 for 0.2 s,
    and a schema of 500 properties, which needs wider rows than its 2,000 items, still fits.
    """
    return LLParserLimits(step_max_items=10_000, max_items_in_row=10_000)


def _reason(matcher: LLMatcher) -> str:
    """The matcher's error without the dump of its state."""
    return matcher.get_error().partition("<state>")[0].strip()


def _grammar(structure: Structure) -> str:
    match structure.kind:
        case "json_schema" | "json_object":
            schema = structure.value if structure.kind == "json_schema" else _ANY_OBJECT
            return LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_pattern": _WHITESPACE})
        case "grammar":
            return LLMatcher.grammar_from_lark(structure.value)


def mask(logits: Tensor, guides: Sequence[Guide | None]) -> Tensor:
    """Logits [rows, vocab] with minus infinity where a row's guide forbids the token; rows without guide as they are.

    A guide that has a `fault` forbids nothing.
    """
    guided = [(row, guide) for row, guide in enumerate(guides) if guide is not None]
    if not guided:
        return logits
    words = torch.full((len(guided), -(-guided[0][1].width // 32)), -1, dtype=torch.int32)
    for place, (_, guide) in enumerate(guided):
        guide.fill(words[place])
        if guide.fault:
            words[place] = -1
    octets = words.view(torch.uint8).to(logits.device).int()  # packed while it travels
    change = F.embedding(octets, _addends(logits.device)).view(len(guided), -1)[:, : logits.shape[1]]
    if len(guided) == logits.shape[0]:
        return logits + change
    return logits.index_add(0, torch.tensor([row for row, _ in guided], device=logits.device), change)


@cache
def _addends(device: torch.device) -> Tensor:
    """What eight bits of a mask add to eight logits: nothing or minus infinity [256, 8]. One look-up beats shifts."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return torch.zeros((256, 8)).masked_fill_(bits == 0, -torch.inf).to(device)
