"""Defects of the frontend: derivatives, dropout, feeds, layouts, the order of examples."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from wyrm import memory
from wyrm.frontend.lowering.layout import Layout
from wyrm.frontend.op import OPS
from wyrm.kernel_steps import Steps
from wyrm.philox import uniform
from wyrm.reference import ReferenceBackend
from wyrm.training import order
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault


def _scaled(vjp: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def wrong(k: Any, g: Any, y: Any, *operands: Any, **attributes: Any) -> Any:
        return vjp(k, k.call("multiply", k.literal(factor), g), y, *operands, **attributes)

    return wrong


for _name, _op in OPS.items():
    for _n, _vjp in enumerate(_op.vjps):
        if _vjp is not None:
            # Signs, thousandths and omissions take turns.
            _kind = (len(_name) + _n) % 3
            _wrong = None if _kind == 2 else _scaled(_vjp, -1.0 if _kind else 1.001)
            patch_fault(
                f"the derivative of {_name} by operand {_n} "
                + ("is off by a thousandth", "has the wrong sign", "is missing")[_kind],
                f"gradients/{_name}",
                target=_op,
                vjps=tuple(_wrong if m == _n else vjp for m, vjp in enumerate(_op.vjps)),
            )

_dropout_mask = Steps._dropout_mask


def _keyless(self: Any, instruction: Any) -> Any:
    if self.kernels is ReferenceBackend.kernels:
        return _dropout_mask(self, instruction)
    key, rate = map(self.view, instruction.operands)
    rows, cols = instruction.out.shape

    def compute() -> Array:
        kept = uniform(np.zeros_like(key[:, 0]), rows * cols).reshape(rows, cols) >= rate
        return np.where(kept, 1 / (1 - rate), 0)

    return self._storing(instruction, compute)


patch_fault(
    "dropout draws the same numbers for every key",
    "kernels/dropout_mask",
    "gradients/dropout_mask",
    target=Steps,
    _dropout_mask=_keyless,
)
patch_fault(
    "detach does not cut derivatives off",
    "gradients/detach",
    target=OPS["detach"],
    vjps=(lambda k, g, y, *operands, **attributes: g,),
)
patch_fault(
    "a part of row numbers begins at the first",
    "training/sequence_rows",
    target=OPS["index_slice"],
    forward=lambda k, a, rows: k.slice(a, (0, rows[1] - rows[0]), (0, 1)),
)
_last_uses = Layout._last_uses


def _too_early(self: Layout, order: list[Any], kept: list[Any]) -> dict[Any, int]:
    places = {value: n for n, value in enumerate(order)}
    uses = _last_uses(self, order, kept)
    return {value: last if last == len(order) else places.get(value, last) for value, last in uses.items()}


patch_fault("memory is used again before its last use", "contract/liveness", target=Layout, _last_uses=_too_early)
_aligned = memory.aligned


def _unaligned(shape: int | tuple[int, ...], dtype: Any, fill: float | None = 0) -> Array:
    dtype = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    raw = _aligned((count + 1) * dtype.itemsize, np.uint8, 0)[dtype.itemsize :]
    array: Array = raw.view(dtype)[:count].reshape(shape)
    if fill:
        array.fill(fill)
    return array


patch_fault("buffers begin between the boundaries of vectors", "contract/alignment", target=memory, aligned=_unaligned)


_default_rng = np.random.default_rng
#: NumPy, with generators that ignore their seed.
_forgetful = SimpleNamespace(**{**vars(np), "random": SimpleNamespace(default_rng=lambda seed=None: _default_rng())})
patch_fault("shuffling ignores the seed", "training/order", "parallel/conflict_free", target=order, np=_forgetful)
