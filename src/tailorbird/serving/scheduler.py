"""Continuous batching: which tokens of which sequences run in each step, on the one thread that owns the model.

    submit ──► waiting ──► running ──► finished        first come, first served
                  ▲           │ no memory left: the youngest goes back and is computed again later
                  └───────────┘

A sequence is its tokens and how many of them are computed. Prompts run in pieces beside the generating rows, so a long
prompt never stops the others. The choices of one request compute their prompt once.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tailorbird.protocol.generation import FinishReason, GenerationChunk, GenerationRequest, TokenLogprob
from tailorbird.serving.adapters import LoadedAdapter
from tailorbird.serving.forward import Chunk, Forward
from tailorbird.serving.sampling import (
    PromptLogprob,
    Sampler,
    make_sampler,
    prompt_logprobs,
    sample,
    token_logprobs,
)
from tailorbird.serving.text import TextStream

_SCORED_AT_ONCE = 64  # rows of full-vocabulary logits held in memory while a prompt is scored


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch` sequences run at once; `step_tokens` prompt tokens run in one step beside the generating rows."""

    batch: int = 32
    step_tokens: int = 512


@dataclass(frozen=True, slots=True)
class PromptScores:
    """One entry a prompt token, the first None. Comes before the request's first chunk."""

    scores: list[PromptLogprob | None]


@dataclass(frozen=True, slots=True)
class EngineStopped:
    """The engine stopped before the request was done."""


Output = GenerationChunk | PromptScores | EngineStopped


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did, for the metrics."""

    running: int
    waiting: int
    batch: int
    prompt_tokens: int
    generated_tokens: int


@dataclass(slots=True, eq=False)
class Ticket:
    """A submitted request; `sink` is called on the engine's thread and must return at once."""

    request: GenerationRequest
    adapter: LoadedAdapter | None
    sink: Callable[[Output], None]
    scores: list[PromptLogprob | None] = field(default_factory=list[PromptLogprob | None])
    followers: list[_Sequence] = field(default_factory=list["_Sequence"])
    unfinished: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    ticket: Ticket
    index: int
    tokens: list[int]
    sampler: Sampler
    text: TextStream
    memory: Any = None
    computed: int = 0
    generated: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def unscored(self) -> bool:
        """Prompt scores are still to be made; they come with choice 0, and only once."""
        request = self.ticket.request
        return request.score_prompt and self.index == 0 and len(self.ticket.scores) < len(request.prompt)


@dataclass(frozen=True, slots=True)
class _Cancel:
    ticket: Ticket


class _Stop: ...


class Engine:
    """Runs requests on its own thread. `submit`, `cancel` and `stop` may be called from any thread.

    The thread lets no error pass silently: whatever escapes a step ends the engine, every open request gets
    EngineStopped, and `alive` turns false, for the process to leave and be started again.
    """

    def __init__(
        self,
        model: Forward,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        limits: Limits,
        *,
        device: torch.device,
        observe: Callable[[StepReport], None] = lambda report: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self.end_ids = end_ids
        self._limits = limits
        self._device = device
        self._observe = observe
        self._on_failure = on_failure
        self._inbox: queue.SimpleQueue[Ticket | _Cancel | _Stop] = queue.SimpleQueue()
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []  # oldest first
        self._open: set[Ticket] = set()
        self._closing = threading.Lock()
        self._closed = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive() and not self._closed

    @property
    def broken(self) -> bool:
        """An error ended the thread, not `stop`."""
        return self._closed and not self._stopping

    def submit(
        self, request: GenerationRequest, adapter: LoadedAdapter | None, sink: Callable[[Output], None]
    ) -> Ticket:
        """The request must fit the model: token ids in the vocabulary, prompt and max_tokens inside the context."""
        ticket = Ticket(request, adapter, sink)
        with self._closing:
            if not self._closed:
                self._inbox.put(ticket)
                return ticket
        sink(EngineStopped())
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Frees what the request holds; nothing more reaches its sink once the running step is over."""
        self._inbox.put(_Cancel(ticket))

    def stop(self, timeout: float) -> bool:
        """Open requests get EngineStopped. False when the thread is still busy after `timeout` seconds."""
        self._inbox.put(_Stop())
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            while not self._stopping:
                self._read_inbox()
                if self._running or self._waiting:
                    self._step()
        finally:
            with self._closing:
                self._closed = True
            while not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, Ticket):
                    self._open.add(message)
            for ticket in self._open:
                ticket.sink(EngineStopped())
            if not self._stopping:
                self._on_failure()

    def _read_inbox(self) -> None:
        """Takes every message there is; sleeps until one comes when there is nothing to run."""
        while not self._stopping:
            idle = not (self._running or self._waiting)
            if not idle and self._inbox.empty():
                return
            if idle:
                self._observe(StepReport(0, 0, 0, 0, 0))
            message = self._inbox.get()
            if isinstance(message, Ticket):
                self._admit(message)
            elif isinstance(message, _Cancel):
                self._drop(message.ticket)
            else:
                self._stopping = True

    def _admit(self, ticket: Ticket) -> None:
        request = ticket.request
        sequences = [
            _Sequence(
                ticket,
                index,
                list(request.prompt),
                make_sampler(request, index, self._device),
                TextStream(self._tokenizer, request.prompt, request.stop),
            )
            for index in range(request.n)
        ]
        if request.score_prompt:
            ticket.scores.append(None)
            if len(request.prompt) == 1:  # nothing to compute
                ticket.sink(PromptScores(ticket.scores))
        ticket.unfinished = request.n
        ticket.followers = sequences[1:]
        self._open.add(ticket)
        self._waiting.append(sequences[0])

    def _drop(self, ticket: Ticket) -> None:
        if ticket not in self._open:
            return
        self._open.discard(ticket)
        for sequence in [s for s in self._running if s.ticket is ticket]:
            self._leave(sequence)
        self._waiting = deque(s for s in self._waiting if s.ticket is not ticket)

    def _leave(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        self._model.close(sequence.memory)
        sequence.memory = None

    def _step(self) -> None:
        planned = self._plan()
        # Rows of one adapter side by side: their sum is one product.
        planned.sort(key=lambda item: id(item[0].ticket.adapter))
        chunks = [self._chunk(sequence, count) for sequence, count in planned]
        rows = self._model.rows(chunks)
        ready: list[tuple[_Sequence, int]] = []
        prompt_tokens = sum(count for sequence, count in planned if not sequence.generated)
        first = 0
        for (sequence, count), chunk in zip(planned, chunks, strict=True):
            end = first + chunk.wanted
            if sequence.unscored:
                self._score(sequence, rows[first:end], chunk)
            sequence.computed += count
            if not sequence.pending:
                ready.append((sequence, end - 1))
                if sequence.ticket.followers:
                    ready += [(follower, end - 1) for follower in self._bring_in(sequence)]
            first = end
        generated = [sequence for sequence, _ in ready]
        if ready:
            self._generate(generated, self._model.logits(rows[[row for _, row in ready]]))
        self._observe(StepReport(len(self._running), len(self._waiting), len(planned), prompt_tokens, len(generated)))

    def _plan(self) -> list[tuple[_Sequence, int]]:
        """Sequences of this step and how many of their tokens run; all of them hold memory for it."""
        planned: list[tuple[_Sequence, int]] = []
        budget = self._limits.step_tokens
        place = 0
        while place < len(self._running):
            sequence = self._running[place]
            count = min(sequence.pending, 1 if sequence.pending == 1 else budget)
            if not count:
                place += 1
            elif self._model.reserve(sequence.memory, sequence.computed + count):
                planned.append((sequence, count))
                budget -= count if sequence.pending > 1 else 0
                place += 1
            else:
                self._send_back(self._running[-1])
                budget = min(budget, 0)  # whoever came in now would be the next to be sent back
        while self._waiting and len(self._running) < self._limits.batch and budget > 0:
            sequence = self._waiting[0]
            count = min(sequence.pending, budget)
            memory = self._model.open()
            if not self._model.reserve(memory, count):
                break
            self._waiting.popleft()
            sequence.memory = memory
            self._running.append(sequence)
            planned.append((sequence, count))
            budget -= count
        return planned

    def _send_back(self, sequence: _Sequence) -> None:
        self._leave(sequence)
        sequence.computed = 0
        self._waiting.appendleft(sequence)

    def _chunk(self, sequence: _Sequence, count: int) -> Chunk:
        start = sequence.computed
        wanted = int(count == sequence.pending)
        if sequence.unscored:
            wanted = count
        return Chunk(sequence.tokens[start : start + count], start, sequence.memory, sequence.ticket.adapter, wanted)

    def _score(self, sequence: _Sequence, rows: Tensor, chunk: Chunk) -> None:
        """Row i of the chunk predicts the token behind it; those scored before a recomputation are skipped."""
        ticket = sequence.ticket
        prompt = ticket.request.prompt
        at = len(ticket.scores) - 1  # the row that predicts the next unscored token
        end = min(chunk.start + len(chunk.tokens), len(prompt) - 1)
        while at < end:
            upto = min(at + _SCORED_AT_ONCE, end)
            logits = self._model.logits(rows[at - chunk.start : upto - chunk.start])
            ticket.scores += prompt_logprobs(logits, prompt[at + 1 : upto + 1])
            at = upto
        if len(ticket.scores) == len(prompt):
            ticket.sink(PromptScores(ticket.scores))

    def _bring_in(self, leader: _Sequence) -> list[_Sequence]:
        """The request's other choices start from the leader's prompt; those that find no room queue up in front."""
        followers, leader.ticket.followers = leader.ticket.followers, []
        ready: list[_Sequence] = []
        for place, follower in enumerate(followers):
            memory = None
            if len(self._running) < self._limits.batch:
                memory = self._model.fork(leader.memory, leader.computed)
            if memory is None:
                self._waiting.extendleft(reversed(followers[place:]))
                break
            follower.memory = memory
            follower.computed = leader.computed
            self._running.append(follower)
            ready.append(follower)
        return ready

    def _generate(self, sequences: Sequence[_Sequence], logits: Tensor) -> None:
        """Draws one token for each row of logits [sequences, vocab] and passes it on."""
        tokens = sample(logits, [sequence.sampler for sequence in sequences])
        asked = [i for i, s in enumerate(sequences) if s.ticket.request.top_logprobs is not None]
        found: dict[int, TokenLogprob] = {}
        for top in {sequences[i].ticket.request.top_logprobs for i in asked}:
            rows = [i for i in asked if sequences[i].ticket.request.top_logprobs == top]
            found |= zip(rows, token_logprobs(logits[rows], [tokens[i] for i in rows], top or 0), strict=True)
        for i, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
            self._pass_on(sequence, token, found.get(i))

    def _pass_on(self, sequence: _Sequence, token: int, logprob: TokenLogprob | None) -> None:
        ticket, request = sequence.ticket, sequence.ticket.request
        sequence.generated += 1
        sequence.tokens.append(token)
        text, reason = "", None
        if token in self.end_ids or token in request.stop_token_ids:
            reason: FinishReason | None = "stop"
        else:
            text = sequence.text.push(token)
            if sequence.text.stopped:
                reason = "stop"
            elif sequence.generated == request.max_tokens:
                reason = "length"
        if reason is not None:
            text += sequence.text.finish()
            self._leave(sequence)
            ticket.unfinished -= 1
            if not ticket.unfinished:
                self._open.discard(ticket)
        logprobs = None if logprob is None else [logprob]
        ticket.sink(GenerationChunk(sequence.index, text, [token], logprobs, reason))
