"""Embeddings: whole texts in packs between the generating steps, their last states averaged, of length 1."""

from __future__ import annotations

from collections import deque

import torch.nn.functional as F

from tailorbird.serving.forward import Forward
from tailorbird.serving.tickets import TextsTicket


class TextQueue:
    """Requests take turns, a pack of texts each: one with many texts does not keep the others waiting."""

    def __init__(self, model: Forward, pack_tokens: int) -> None:
        self._model = model
        self._pack_tokens = pack_tokens
        self._waiting: deque[TextsTicket] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ticket: TextsTicket) -> None:
        self._waiting.append(ticket)

    def drop(self, ticket: TextsTicket) -> None:
        if ticket in self._waiting:
            self._waiting.remove(ticket)

    def run(self) -> tuple[int, TextsTicket | None]:
        """Embeds the first request's next pack; the tokens computed, and the request once all its texts are done.

        A pack holds texts of `pack_tokens` in all; a longer text is one by itself, since without a cache it cannot be
        computed in pieces.
        """
        ticket = self._waiting.popleft()
        texts = ticket.request.inputs[len(ticket.vectors) :]
        pack, tokens = [texts[0]], len(texts[0])
        for text in texts[1:]:
            if tokens + len(text) > self._pack_tokens:
                break
            pack.append(text)
            tokens += len(text)
        ticket.vectors += F.normalize(self._model.pool(pack, ticket.adapter), dim=-1).tolist()
        if len(ticket.vectors) == len(ticket.request.inputs):
            return tokens, ticket
        self._waiting.append(ticket)
        return tokens, None
