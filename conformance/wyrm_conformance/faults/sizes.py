"""Faults that begin beyond a size: of vectors and blocks, of rows, of products; and gaps that are forgotten for many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm import kernel_steps
from wyrm.memory import GradientBuffer
from wyrm.philox import uniform
from wyrm_conformance.context import Array
from wyrm_conformance.faults.chains import fused, with_chains
from wyrm_conformance.faults.subject import KERNELS, backend_fault, kernel_fault, patch_fault


def _up_to(name: str, elements: int = 2**16) -> Any:
    """Nothing is computed past so many elements."""

    def wrong(*operands: Array, **attributes: Any) -> Array:
        result = np.array(KERNELS[name](*operands, **attributes))
        result.reshape(-1)[elements:] = 0
        return result

    return wrong


def _of_rows(name: str, rows: int) -> Any:
    """Rows past so many are those before them once more."""

    def wrong(*operands: Array, **attributes: Any) -> Array:
        result = np.array(KERNELS[name](*operands, **attributes))
        result[rows:] = result[: max(0, len(result) - rows)]
        return result

    return wrong


def _of_columns(name: str, cols: int) -> Any:
    """Columns of the first operand past so many are not looked at."""
    return lambda a, *others, **attributes: KERNELS[name](a[:, :cols], *others, **attributes)


for _name in ("add", "exp", "select", "lstm_cell"):
    kernel_fault(f"{_name} computes nothing past 65,536 elements", f"kernels/{_name}", **{_name: _up_to(_name)})
kernel_fault("multiply repeats its rows past 4,096", "kernels/multiply", multiply=_of_rows("multiply", 4096))
kernel_fault("sigmoid repeats its rows past 65,536", "kernels/sigmoid", sigmoid=_of_rows("sigmoid", 65_536))
kernel_fault("row_max looks at 1,024 columns", "kernels/row_max", row_max=_of_columns("row_max", 1024))
kernel_fault("logsumexp looks at 4,096 columns", "kernels/logsumexp", logsumexp=_of_columns("logsumexp", 4096))
kernel_fault(
    "softmax of more than a thousand columns is not divided by all of its sum",
    "kernels/softmax",
    softmax=lambda a: (e := np.exp(a - a.max(axis=1, keepdims=True))) / e[:, :1000].sum(axis=1, keepdims=True),
)
kernel_fault(
    "row_dot ends at 65,536 columns",
    "kernels/row_dot",
    row_dot=lambda a, b: (a * b)[:, : 2**16].sum(axis=1, keepdims=True),
)
kernel_fault(
    "sums along columns end at 4,096 rows",
    "kernels/sum",
    sum=lambda a, axis: KERNELS["sum"](a[:4096] if axis in (0, None) else a, axis=axis),
)


def _depth(limit: int) -> Callable[..., Array]:
    def wrong(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
        left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
        return left[:, :limit] @ right[:limit]

    return wrong


kernel_fault("products are cut off at a depth of 256", "kernels/matmul", matmul=_depth(256))
kernel_fault("products are cut off at a depth of 1,024", "kernels/matmul", matmul=_depth(1024))
kernel_fault("products have 65,536 columns at most", "kernels/matmul", matmul=_up_to("matmul"))


def _gapless(a: Array, rows: int) -> Array:
    """A matrix of more rows than that, read as if nothing lay between them."""
    return np.lib.stride_tricks.as_strided(a, a.shape, (a.shape[1] * a.itemsize, a.itemsize)) if len(a) > rows else a


kernel_fault(
    "transpose forgets the gaps between more than three rows", "kernels/transpose", transpose=lambda a: _gapless(a, 3).T
)
kernel_fault(
    "subtract forgets the gaps in its second operand, of more than sixteen rows",
    "kernels/subtract",
    subtract=lambda a, b: a - _gapless(b, 16),
)
kernel_fault(
    "divide reads its second operand with the gaps of the first",
    "kernels/divide",
    divide=lambda a, b: a / (np.lib.stride_tricks.as_strided(b, b.shape, a.strides) if a.shape == b.shape else b),
)
kernel_fault(
    "sums along rows forget the gaps between more than eight",
    "kernels/sum",
    sum=lambda a, axis: KERNELS["sum"](_gapless(a, 8) if axis == 1 else a, axis=axis),
)
backend_fault(
    "chains end after 65,536 elements",
    "kernels/fused",
    make=lambda: with_chains(fused=lambda *operands, chain: _cut(fused(*operands, chain=chain))),
)


def _cut(result: Array) -> Array:
    result = np.array(result)
    result.reshape(-1)[2**16 :] = 0
    return result


_clear, _update = GradientBuffer.clear, kernel_steps._Target.update


def _beginning_cleared(self: GradientBuffer) -> None:
    if self.dense is None or self.dense.size <= 4096:
        return _clear(self)
    self.dense.reshape(-1)[:4096] = 0
    self.header[0] = self.header[2] = 0


patch_fault("gradients are cleared up to 4,096 elements", "optimizers/large", target=GradientBuffer, clear=_beginning_cleared)


def _beginning_updated(self: Any, rows: Any, gradient: Array) -> None:
    kept = self.value[4096:].copy()
    _update(self, rows, gradient)
    if isinstance(rows, slice):
        self.value[4096:] = kept


patch_fault(
    "updates of all rows end after 4,096",
    "kernels/updates",
    "optimizers/large",
    target=kernel_steps._Target,
    update=_beginning_updated,
)


def _short_counter(key: Array, count: int) -> Array:
    return np.resize(uniform(key, min(count, 2**16)), count)


patch_fault("random numbers repeat after 65,536", "kernels/dropout_mask", target=kernel_steps, uniform=_short_counter)
