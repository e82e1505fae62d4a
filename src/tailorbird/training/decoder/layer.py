"""One decoder layer, forward and backward, over all tokens of a pass at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailorbird.training.decoder.attention import Block, Keys, attend, attend_backward
from tailorbird.training.decoder.linear import Linear
from tailorbird.training.decoder.norms import Angles, Gate, Norm


@dataclass(frozen=True, slots=True)
class Heads:
    """`count` query heads share `kv` key heads; each has `features`."""

    count: int
    kv: int
    features: int

    @property
    def group(self) -> int:
        return self.count // self.kv


@dataclass(frozen=True, slots=True)
class View:
    """What a layer sees of a pass: who needs a state of it, the angles, who sees whom, and the keys of other passes.

    `rows` are the tokens that need a state, None for all; the others only leave keys and values. `stores` are those of
    the passes this one builds on.
    """

    rows: Tensor | None
    row_angles: Angles  # times the scale of the scores
    angles: Angles
    blocks: Sequence[Block]
    stores: Sequence[Keys]

    @property
    def keys_only(self) -> bool:
        return self.rows is not None and not len(self.rows)


@dataclass(frozen=True, slots=True)
class _State:
    """Of the rows that have a state. The `inner` ones are of LoRA pairs, `raw` is before the heads' norms."""

    raw: Tensor | None  # [rows, queries]
    inner_q: Tensor | None
    q: Tensor  # [kv, rows x group, features], turned and scaled
    mixed: Tensor  # [rows, queries]
    inner_output: Tensor | None
    middle: Tensor  # [rows, hidden]
    inverse: Tensor
    both: Tensor  # [rows, 2 inner]
    inner_both: Tensor | None
    inner_down: Tensor | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the gradient needs of a layer's forward pass beside its input; all else is cheaper to compute again."""

    keys: Keys
    inverse: Tensor  # [tokens, 1]
    raw: Tensor | None  # [tokens, keys] before the heads' norms
    inner: Tensor | None  # of q|k|v, or of k|v where the rows' queries were computed apart
    state: _State | None


class Layer:
    """The weights of one layer."""

    def __init__(
        self,
        heads: Heads,
        norms: tuple[Norm, Norm],
        head_norms: tuple[Norm, Norm] | None,
        linears: tuple[Linear, Linear, Linear, Linear],
        gate: Gate,
    ) -> None:
        """`norms` before attention and before the MLP; `linears` are q|k|v, output, gate|up and down."""
        self._heads = heads
        self._before, self._between = norms
        self._q_norm, self._k_norm = head_norms or (None, None)
        self._qkv, self._output, self._both, self._down = linears
        self._gate = gate
        self._queries = heads.count * heads.features
        self._keys = heads.kv * heads.features
        # Parts of the same matrix, for the layer whose states are wanted at few tokens.
        self._q = self._qkv.narrow(0, self._queries)
        self._kv = self._qkv.narrow(self._queries, self._queries + 2 * self._keys)

    @property
    def linears(self) -> tuple[Linear, ...]:
        return self._qkv, self._output, self._both, self._down

    @property
    def numbers_per_token(self) -> int:
        """Numbers that a token's memory and its input take."""
        raw = self._qkv.outputs if self._q_norm else 0
        ranks = sum(linear.rank for linear in self.linears)
        own = self._output.outputs * 2 + self._queries * 2 + self._keys * 2 + self._both.outputs
        return own + raw + ranks + 2

    def refresh(self) -> None:
        """Takes over the adapter's values of this moment."""
        for linear in (*self.linears, self._q, self._kv):
            linear.refresh()

    def forget(self) -> None:
        """Lets go of those values."""
        for linear in (*self.linears, self._q, self._kv):
            linear.forget()

    def forward(self, x: Tensor, view: View) -> tuple[Tensor, Memory]:
        """x [tokens, hidden] to [rows, hidden]."""
        normed, inverse = self._before.forward(x)
        raw_q, inner_q = None, None
        if view.rows is None:
            qkv, inner = self._qkv.forward(normed)
            raw_q, raw_k, raw_v = qkv.split((self._queries, self._keys, self._keys), dim=1)
        else:
            kv, inner = self._kv.forward(normed)
            raw_k, raw_v = kv.split((self._keys, self._keys), dim=1)
            if not view.keys_only:
                raw_q, inner_q = self._q.forward(normed[view.rows])
        keys = Keys(self._turned_keys(raw_k, view.angles), self._by_head(raw_v).transpose(0, 1).contiguous())
        raw_kept = raw_k if self._k_norm else None
        if raw_q is None:
            return x[:0], Memory(keys, inverse, raw_kept, inner, None)
        q = self._turned_queries(raw_q, view.row_angles)
        mixed = self._flat(attend(q, view.blocks, [*view.stores, keys], self._heads.group))
        change, inner_output = self._output.forward(mixed)
        middle = change.add_(x if view.rows is None else x[view.rows])
        normed, middle_inverse = self._between.forward(middle)
        both, inner_both = self._both.forward(normed)
        result, inner_down = self._down.forward(self._gate.forward(both))
        state = _State(
            raw=raw_q if self._q_norm else None,
            inner_q=inner_q,
            q=q,
            mixed=mixed,
            inner_output=inner_output,
            middle=middle,
            inverse=middle_inverse,
            both=both,
            inner_both=inner_both,
            inner_down=inner_down,
        )
        return result.add_(middle), Memory(keys, inverse, raw_kept, inner, state)

    def backward(self, dy: Tensor, x: Tensor, memory: Memory, view: View, *, first: bool) -> Tensor | None:
        """dy [rows, hidden] to the gradient of x [tokens, hidden]; that of the keys in `view.stores` is added there.

        Nothing below the `first` layer is trained: its input needs no gradient.
        """
        state = memory.state
        ends_here = first and not self._qkv.adapted
        dmiddle, dq = None, None
        if state is not None:
            dmiddle = self._backward_mlp(dy, state)
            dmixed = self._output.backward(dmiddle, state.mixed, state.inner_output, wants_dx=not ends_here)
            if dmixed is not None:
                stores = [*view.stores, memory.keys]
                dq = attend_backward(self._grouped(dmixed), state.q, view.blocks, stores, self._heads.group)
        if ends_here:
            return None
        normed = self._before.again(x, memory.inverse)
        dnormed = self._backward_qkv(dq, normed, memory, view, wants_dx=not first)
        if dnormed is None:
            return None
        dx = self._before.backward(dnormed, x, memory.inverse)
        if dmiddle is None:
            return dx
        return dx.add_(dmiddle) if view.rows is None else dx.index_add_(0, view.rows, dmiddle)

    def _backward_mlp(self, dy: Tensor, state: _State) -> Tensor:
        """From the layer's result to the residual stream between attention and MLP."""
        inner = self._gate.forward(state.both)
        dinner = self._down.backward(dy, inner, state.inner_down)
        assert dinner is not None
        dboth = self._gate.backward(dinner, state.both)
        normed = self._between.again(state.middle, state.inverse)
        dnormed = self._both.backward(dboth, normed, state.inner_both)
        assert dnormed is not None
        return self._between.backward(dnormed, state.middle, state.inverse).add_(dy)

    def _backward_qkv(
        self, dq: Tensor | None, normed: Tensor, memory: Memory, view: View, *, wants_dx: bool
    ) -> Tensor | None:
        """From queries, keys and values to the normed input."""
        offset = self._queries if view.rows is None else 0
        gradient = normed.new_empty((normed.shape[0], offset + 2 * self._keys))
        dk, dv = memory.keys.gradients()
        self._unturn_keys(dk, gradient[:, offset : offset + self._keys], memory.raw, view.angles)
        self._by_head(gradient[:, offset + self._keys :]).copy_(dv.transpose(0, 1))
        state = memory.state
        if view.rows is None:
            assert dq is not None
            assert state is not None
            self._unturn_queries(dq, gradient[:, :offset], state.raw, view.row_angles)
            return self._qkv.backward(gradient, normed, memory.inner, wants_dx=wants_dx)
        dnormed = self._kv.backward(gradient, normed, memory.inner, wants_dx=wants_dx)
        if dq is not None and state is not None:
            dqueries = normed.new_empty((len(view.rows), self._queries))
            self._unturn_queries(dq, dqueries, state.raw, view.row_angles)
            drows = self._q.backward(dqueries, normed[view.rows], state.inner_q, wants_dx=wants_dx)
            if dnormed is not None and drows is not None:
                dnormed.index_add_(0, view.rows, drows)
        return dnormed

    def _turned_keys(self, raw: Tensor, angles: Angles) -> Tensor:
        """[tokens, keys] to [kv, tokens, features]."""
        heads = self._by_head(raw)
        if self._k_norm:
            heads = self._k_norm.exact(heads, self._k_norm.inverse(heads))
        turned = raw.new_empty((self._heads.kv, raw.shape[0], self._heads.features))
        angles.turn(heads, turned.transpose(0, 1))
        return turned

    def _unturn_keys(self, dkeys: Tensor, out: Tensor, raw: Tensor | None, angles: Angles) -> None:
        target = self._by_head(out)
        turned = dkeys.transpose(0, 1)
        if self._k_norm is None or raw is None:
            angles.turn(turned, target, back=True)
            return
        plain = torch.empty_like(turned)
        angles.turn(turned, plain, back=True)
        target.copy_(_through(self._k_norm, plain, self._by_head(raw)))

    def _turned_queries(self, raw: Tensor, angles: Angles) -> Tensor:
        """[rows, queries] to [kv, rows x group, features]."""
        heads = self._by_head(raw)
        if self._q_norm:
            heads = self._q_norm.exact(heads, self._q_norm.inverse(heads))
        shape = self._heads
        turned = raw.new_empty((shape.kv, raw.shape[0], shape.group, shape.features))
        for g in range(shape.group):  # heads g, g + group, ...: one of each key head
            angles.turn(heads[:, g :: shape.group], turned[:, :, g].transpose(0, 1))
        return turned.view(shape.kv, -1, shape.features)

    def _unturn_queries(self, dq: Tensor, out: Tensor, raw: Tensor | None, angles: Angles) -> None:
        shape = self._heads
        turned = dq.view(shape.kv, -1, shape.group, shape.features)
        target = self._by_head(out)
        plain = target if self._q_norm is None else torch.empty_like(target, dtype=torch.float32)
        for g in range(shape.group):
            angles.turn(turned[:, :, g].transpose(0, 1), plain[:, g :: shape.group], back=True)
        if self._q_norm is not None and raw is not None:
            target.copy_(_through(self._q_norm, plain, self._by_head(raw)))

    def _grouped(self, flat: Tensor) -> Tensor:
        """[rows, queries] to [kv, rows x group, features]."""
        shape = self._heads
        heads = flat.view(flat.shape[0], shape.kv, shape.group * shape.features).transpose(0, 1)
        return heads.reshape(shape.kv, -1, shape.features)

    def _flat(self, grouped: Tensor) -> Tensor:
        """[kv, rows x group, features] to [rows, queries]."""
        rows = grouped.shape[1] // self._heads.group
        return grouped.view(self._heads.kv, rows, -1).transpose(0, 1).reshape(rows, -1)

    def _by_head(self, flat: Tensor) -> Tensor:
        """[tokens, heads x features] to [tokens, heads, features]."""
        return flat.unflatten(1, (-1, self._heads.features))


def _through(norm: Norm, dy: Tensor, x: Tensor) -> Tensor:
    return norm.backward(dy, x, norm.inverse(x))
