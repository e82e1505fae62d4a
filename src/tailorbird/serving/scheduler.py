"""Continuous batching: which tokens of which sequences run in each step, on the one thread that owns the model.

    submit ──► waiting ──► running ──► finished        first come, first served
                  ▲           │ no memory left: the youngest goes back and is computed again later
                  └───────────┘

A sequence is its tokens and how many of them are computed. Prompts run in pieces beside the generating rows, so a long
prompt never stops the others. The choices of one request compute their prompt once; one of them waits at a time, so
that a request of many choices takes turns with those behind it. Texts to embed run in packs between the steps.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tailorbird.protocol.generation import (
    EmbeddingRequest,
    FinishReason,
    GenerationChunk,
    GenerationRequest,
    TokenLogprob,
)
from tailorbird.serving.adapters import LoadedAdapter
from tailorbird.serving.forward import Chunk, Forward
from tailorbird.serving.pooling import TextQueue
from tailorbird.serving.sampling import prompt_logprobs, sample, token_logprobs
from tailorbird.serving.structure import Grammar
from tailorbird.serving.tickets import (
    Choice,
    EngineStopped,
    Limits,
    Output,
    Prompt,
    PromptScores,
    StepReport,
    StructureBroken,
    TextsTicket,
    Ticket,
    Vectors,
    make_choices,
)

_SCORED_AT_ONCE = 64  # rows of full-vocabulary logits held in memory while a prompt is scored


@dataclass(frozen=True, slots=True)
class _Cancel:
    ticket: Ticket | TextsTicket


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
        self._inbox: queue.SimpleQueue[Ticket | TextsTicket | _Cancel | _Stop] = queue.SimpleQueue()
        self._waiting: deque[Choice] = deque()
        self._running: list[Choice] = []  # oldest first
        self._texts = TextQueue(model, limits.step_tokens)
        self._open: set[Ticket | TextsTicket] = set()
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
        self,
        request: GenerationRequest,
        adapter: LoadedAdapter | None,
        sink: Callable[[Output], None],
        grammar: Grammar | None = None,
    ) -> Ticket:
        """The request must fit the model: token ids in the vocabulary, prompt and max_tokens inside the context.

        `grammar` is the request's compiled structure.
        """
        ticket = Ticket(request, adapter, sink, grammar)
        self._take_in(ticket)
        return ticket

    def embed(
        self,
        request: EmbeddingRequest,
        adapter: LoadedAdapter | None,
        sink: Callable[[Vectors | EngineStopped], None],
    ) -> TextsTicket:
        """Every text must fit the model and hold a token at least."""
        ticket = TextsTicket(request, adapter, sink)
        self._take_in(ticket)
        return ticket

    def _take_in(self, ticket: Ticket | TextsTicket) -> None:
        with self._closing:
            if not self._closed:
                self._inbox.put(ticket)
                return
        ticket.sink(EngineStopped())

    def cancel(self, ticket: Ticket | TextsTicket) -> None:
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
                if self._texts:
                    self._embed()
        finally:
            with self._closing:
                self._closed = True
            while not self._inbox.empty():
                message = self._inbox.get()
                if isinstance(message, Ticket | TextsTicket):
                    self._open.add(message)
            for ticket in self._open:
                ticket.sink(EngineStopped())
            if not self._stopping:
                self._on_failure()

    def _read_inbox(self) -> None:
        """Takes every message there is; sleeps until one comes when there is nothing to run."""
        while not self._stopping:
            idle = not (self._running or self._waiting or self._texts)
            if not idle and self._inbox.empty():
                return
            if idle:
                self._observe(StepReport(0, 0, 0, 0, 0))
            message = self._inbox.get()
            if isinstance(message, Ticket):
                self._admit(message)
            elif isinstance(message, TextsTicket):
                self._open.add(message)
                self._texts.add(message)
            elif isinstance(message, _Cancel):
                self._drop(message.ticket)
            else:
                self._stopping = True

    def _admit(self, ticket: Ticket) -> None:
        request = ticket.request
        choices = make_choices(ticket, self._tokenizer, self._device)
        if request.score_prompt:
            ticket.scores.append(None)
            if len(request.prompt) == 1:  # nothing to compute
                ticket.sink(PromptScores(ticket.scores))
        ticket.unfinished = request.n
        ticket.followers.extend(choices[1:])
        self._open.add(ticket)
        self._waiting.append(choices[0])

    def _drop(self, ticket: Ticket | TextsTicket) -> None:
        if ticket not in self._open:
            return
        self._open.discard(ticket)
        if isinstance(ticket, TextsTicket):
            self._texts.drop(ticket)
            return
        self._forget(ticket)
        for sequence in [s for s in self._running if s.ticket is ticket]:
            self._leave(sequence)
        self._waiting = deque(s for s in self._waiting if s.ticket is not ticket)

    def _leave(self, sequence: Choice) -> None:
        self._running.remove(sequence)
        self._model.close(sequence.memory)
        sequence.memory = None

    def _embed(self) -> None:
        tokens, done = self._texts.run()
        self._observe(StepReport(len(self._running), len(self._waiting), 0, 0, 0, tokens))
        if done is not None:
            self._open.discard(done)
            done.sink(Vectors(done.vectors))

    def _step(self) -> None:
        planned, begun = self._plan()
        # Rows of one adapter side by side: their sum is one product.
        planned.sort(key=lambda item: id(item[0].ticket.adapter))
        chunks = [self._chunk(sequence, count) for sequence, count in planned]
        rows = self._model.rows(chunks) if chunks else None
        ready: list[Choice] = []
        places: list[int] = []
        prompt_tokens = sum(count for sequence, count in planned if not sequence.generated)
        first = 0
        for (sequence, count), chunk in zip(planned, chunks, strict=True):
            end = first + chunk.wanted
            if rows is not None and sequence.unscored:
                self._score(sequence, rows[first:end], chunk)
            sequence.computed += count
            if not sequence.pending:
                ready.append(sequence)
                places.append(end - 1)
            first = end
        logits = [prompt.logits for _, prompt in begun]
        if rows is not None and ready:
            logits.insert(0, self._model.logits(rows[places]))
            self._keep_prompts(ready, logits[0])
        ready += [sequence for sequence, _ in begun]
        if ready:
            self._generate(ready, logits[0] if len(logits) == 1 else torch.cat(logits))
        self._observe(StepReport(len(self._running), len(self._waiting), len(planned), prompt_tokens, len(ready)))

    def _plan(self) -> tuple[list[tuple[Choice, int]], list[tuple[Choice, Prompt]]]:
        """Sequences of this step and how many of their tokens run, and those that begin behind a computed prompt.

        All of them hold memory for it.
        """
        planned: list[tuple[Choice, int]] = []
        begun: list[tuple[Choice, Prompt]] = []
        budget = self._plan_running(planned)
        while self._waiting and len(self._running) < self._limits.batch and budget > 0:
            sequence = self._waiting[0]
            prompt = None if sequence.generated else sequence.ticket.prompt
            if prompt is not None:
                count, memory = 0, self._model.fork(prompt.memory, sequence.pending)
            else:
                count, memory = min(sequence.pending, budget), self._model.open()
                memory = memory if self._model.reserve(memory, count) else None
            if memory is None:
                if self._running or not self._forget_one():
                    break
                continue  # what was kept for those that wait is all that is in the way
            self._waiting.popleft()
            sequence.memory = memory
            self._running.append(sequence)
            budget -= count
            if prompt is None:
                planned.append((sequence, count))
            else:
                sequence.computed = sequence.pending
                begun.append((sequence, prompt))
                self._queue_next(sequence.ticket)
        return planned, begun

    def _plan_running(self, planned: list[tuple[Choice, int]]) -> int:
        """Adds the running sequences; the prompt tokens that may still be added to the step."""
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
            elif not self._forget_one():
                self._send_back(self._running[-1])
                budget = min(budget, 0)  # whoever came in now would be the next to be sent back
        return budget

    def _keep_prompts(self, sequences: Sequence[Choice], logits: Tensor) -> None:
        """The prompts that are computed now, and from which further choices shall start; without room, each anew."""
        for row, sequence in enumerate(sequences):
            ticket = sequence.ticket
            if ticket.followers and not sequence.generated:
                memory = self._model.fork(sequence.memory, sequence.computed)
                if memory is not None:
                    ticket.prompt = Prompt(memory, logits[row : row + 1])
                self._queue_next(ticket)

    def _queue_next(self, ticket: Ticket) -> None:
        """The next choice queues up behind everybody; after the last one the prompt is needed no more."""
        if ticket.followers:
            self._waiting.append(ticket.followers.popleft())
        else:
            self._forget(ticket)

    def _forget(self, ticket: Ticket) -> bool:
        prompt, ticket.prompt = ticket.prompt, None
        if prompt is not None:
            self._model.close(prompt.memory)
        return prompt is not None

    def _forget_one(self) -> bool:
        """Gives back the memory of one kept prompt; False when there is none."""
        return any(self._forget(ticket) for ticket in self._open if isinstance(ticket, Ticket))

    def _send_back(self, sequence: Choice) -> None:
        self._leave(sequence)
        sequence.computed = 0
        self._waiting.appendleft(sequence)

    def _chunk(self, sequence: Choice, count: int) -> Chunk:
        start = sequence.computed
        wanted = int(count == sequence.pending)
        if sequence.unscored:
            wanted = count
        return Chunk(sequence.tokens[start : start + count], start, sequence.memory, sequence.ticket.adapter, wanted)

    def _score(self, sequence: Choice, rows: Tensor, chunk: Chunk) -> None:
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

    def _generate(self, sequences: Sequence[Choice], logits: Tensor) -> None:
        """Draws one token for each row of logits [sequences, vocab] and passes it on."""
        tokens = sample(logits, [sequence.sampler for sequence in sequences])
        asked = [i for i, s in enumerate(sequences) if s.ticket.request.top_logprobs is not None]
        found: dict[int, TokenLogprob] = {}
        for top in {sequences[i].ticket.request.top_logprobs for i in asked}:
            rows = [i for i in asked if sequences[i].ticket.request.top_logprobs == top]
            found |= zip(rows, token_logprobs(logits[rows], [tokens[i] for i in rows], top or 0), strict=True)
        for i, (sequence, token) in enumerate(zip(sequences, tokens, strict=True)):
            fault = "" if sequence.guide is None else sequence.guide.fault
            if fault and sequence.ticket in self._open:
                self._drop(sequence.ticket)
                sequence.ticket.sink(StructureBroken(fault))
            elif sequence.ticket in self._open:  # not dropped a row before
                self._pass_on(sequence, token, found.get(i))

    def _pass_on(self, sequence: Choice, token: int, logprob: TokenLogprob | None) -> None:
        ticket, request = sequence.ticket, sequence.ticket.request
        sequence.generated += 1
        sequence.tokens.append(token)
        text, reason = "", None
        if token in self.end_ids or token in request.stop_token_ids:
            reason: FinishReason | None = "stop"
        else:
            text = sequence.text.push(token)
            if sequence.guide is not None:
                sequence.guide.take(token)
            if sequence.text.stopped or (sequence.guide is not None and sequence.guide.finished):
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
