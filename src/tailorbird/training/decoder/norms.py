"""Root-mean-square norms, rotary positions and the gated activation, each with its gradient.

Norms and rotary positions are computed in float32, whatever their tensors are kept in, and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Norm:
    """x / rms(x) * weight over the last dimension."""

    weight: Tensor  # float32
    epsilon: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normed x, and 1 / rms(x) [.., 1] in float32."""
        inverse = self.inverse(x)
        return self.again(x, inverse), inverse

    def inverse(self, x: Tensor) -> Tensor:
        """1 / rms(x) [.., 1] in float32."""
        squares = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        return squares.div_(x.shape[-1]).add_(self.epsilon).rsqrt_()

    def again(self, x: Tensor, inverse: Tensor) -> Tensor:
        """The normed x once more, `inverse` being known."""
        return self.exact(x, inverse).to(x.dtype)

    def exact(self, x: Tensor, inverse: Tensor) -> Tensor:
        """The same in float32."""
        return (x * inverse).mul_(self.weight)

    def backward(self, dy: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
        unit = x * inverse
        scaled = dy * self.weight
        share = (scaled * unit).mean(-1, keepdim=True)
        return torch.addcmul(scaled, unit, share, value=-1).mul_(inverse).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Angles:
    """Rotary positions of some tokens: `cos` and `sin` are [tokens, 1, features / 2]; feature i turns with i + half."""

    cos: Tensor  # float32
    sin: Tensor

    def of(self, rows: Tensor) -> Angles:
        return Angles(self.cos[rows], self.sin[rows])

    def times(self, factor: float) -> Angles:
        """Turns and stretches at once."""
        return Angles(self.cos * factor, self.sin * factor)

    def turn(self, x: Tensor, out: Tensor, *, back: bool = False) -> None:
        """Writes x [tokens, heads, features], turned forth or back, to `out` of the same shape."""
        half = x.shape[-1] // 2
        sign = -1 if back else 1
        for side, other, direction in ((0, 1, -sign), (1, 0, sign)):
            place = out[..., side * half : (side + 1) * half]
            part = place if out.dtype == torch.float32 else torch.empty_like(place, dtype=torch.float32)
            torch.mul(x[..., side * half : (side + 1) * half], self.cos, out=part)
            part.addcmul_(x[..., other * half : (other + 1) * half], self.sin, value=direction)
            if part is not place:
                place.copy_(part)


@dataclass(frozen=True, slots=True)
class Gate:
    """act(gate) * up, the two side by side in one tensor [T, 2 inner]. `tanh_gelu` tells GELU's estimate from SiLU."""

    tanh_gelu: bool

    def forward(self, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        return self._act(gate).mul_(up)

    def backward(self, dy: Tensor, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        gradient = torch.empty_like(both)
        dgate, dup = gradient.chunk(2, dim=-1)
        torch.mul(dy, self._act(gate), out=dup)
        dact = dy * up
        if self.tanh_gelu:
            dgate.copy_(torch.ops.aten.gelu_backward(dact, gate, approximate="tanh"))
        else:
            dgate.copy_(torch.ops.aten.silu_backward(dact, gate))
        return gradient

    def _act(self, gate: Tensor) -> Tensor:
        return functional.gelu(gate, approximate="tanh") if self.tanh_gelu else functional.silu(gate)
