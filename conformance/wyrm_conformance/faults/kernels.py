"""Faulty kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import KERNELS, kernel_fault
from wyrm_conformance.formulas import lstm_cell, lstm_cell_vjp

_F32 = np.float32


def _without_tail(name: str) -> Any:
    """Only whole vectors of eight are computed."""

    def wrong(*operands: Array, **attributes: Any) -> Array:
        result = np.array(KERNELS[name](*operands, **attributes))
        cols = result.shape[1]
        if cols > 8:
            result[:, cols - cols % 8 :] = 0
        return result

    return wrong


def _narrow(name: str) -> Any:
    """Computed in float32, whatever is asked for."""

    def wrong(*operands: Array, **attributes: Any) -> Array:
        return KERNELS[name](*(operand.astype(_F32) for operand in operands), **attributes).astype(operands[0].dtype)

    return wrong


def _flushed(a: Array) -> Array:
    """Denormal numbers taken for zero."""
    return np.where(np.abs(a) < np.finfo(a.dtype).tiny, a.dtype.type(0), a)


kernel_fault("add leaves the tail of a vector out", "kernels/add", "gradients/add", add=_without_tail("add"))
kernel_fault(
    "multiply leaves the tail of a vector out", "kernels/multiply", "gradients/multiply", multiply=_without_tail("multiply")
)
kernel_fault("subtract the other way round", "kernels/subtract", "gradients/subtract", subtract=lambda a, b: b - a)
kernel_fault("divide by the reciprocal", "kernels/divide", divide=lambda a, b: a * (a.dtype.type(1) / b))
kernel_fault("negate as 0 - a, which loses the sign of zero", "kernels/negate", negate=lambda a: a.dtype.type(0) - a)
kernel_fault("exp that saturates at 80", "kernels/exp", exp=lambda a: np.exp(np.clip(a, -80, 80)).astype(a.dtype))
kernel_fault("log that takes denormal numbers for zero", "kernels/log", log=lambda a: np.log(_flushed(a)))
kernel_fault("sqrt by exp and log", "kernels/sqrt", sqrt=lambda a: np.exp(0.5 * np.log(a)).astype(a.dtype))
kernel_fault("absolute by sqrt of the square, which overflows", "kernels/absolute", absolute=lambda a: np.sqrt(a * a))
kernel_fault("tanh by exponentials, which loses small arguments", "kernels/tanh", tanh=lambda a: 1 - 2 / (np.exp(2 * a) + 1))
kernel_fault("sigmoid that overflows to NaN", "kernels/sigmoid", sigmoid=lambda a: np.exp(a) / (1 + np.exp(a)))
kernel_fault(
    "softplus as log(1 + exp(a)) as it stands", "kernels/softplus", softplus=lambda a: np.log(1 + np.exp(a)).astype(a.dtype)
)
kernel_fault("power by exp(b * log(a))", "kernels/power", power=lambda a, b: np.exp(b * np.log(a)).astype(a.dtype))
kernel_fault("maximum that drops NaN", "kernels/maximum", maximum=np.fmax)
kernel_fault("minimum that drops NaN", "kernels/minimum", minimum=np.fmin)
kernel_fault(
    "greater that takes equal for greater",
    "kernels/greater",
    "gradients/greater",
    "gradients/less",
    "gradients/greater_equal",
    "gradients/less_equal",
    "gradients/equal",
    "gradients/not_equal",
    greater=lambda a, b: (a >= b).astype(a.dtype),
)
kernel_fault("select by the sign of the condition", "kernels/select", select=lambda c, a, b: np.asarray(np.where(c > 0, a, b)))
kernel_fault(
    "sum that leaves the last row out",
    "kernels/sum",
    "gradients/sum",
    "gradients/mean",
    sum=lambda a, axis: (a[:-1] if axis is None and len(a) > 1 else a).sum(axis=axis, keepdims=True),
)
kernel_fault("sum in float32 where float64 is asked for", "kernels/sum", sum=_narrow("sum"))
kernel_fault("sum that skips NaN", "kernels/limits", sum=lambda a, axis: np.nansum(a, axis=axis, keepdims=True))
kernel_fault(
    "sum of nothing that is NaN",
    "gradients/empty",
    sum=lambda a, axis: a.sum(axis=axis, keepdims=True) if a.size else np.full_like(a.sum(axis=axis, keepdims=True), np.nan),
)
kernel_fault("row_max that begins from 0", "kernels/row_max", row_max=lambda a: a.max(axis=1, keepdims=True, initial=0))
kernel_fault(
    "transpose that only gives another shape", "kernels/transpose", "gradients/t", transpose=lambda a: a.reshape(a.shape[::-1])
)
kernel_fault(
    "matmul that forgets to transpose",
    "kernels/matmul",
    "gradients/dot",
    "layers/linear",
    matmul=lambda a, b, transpose_a=False, transpose_b=False: (
        (a.T if transpose_a else a) @ (b.reshape(b.shape[::-1]) if transpose_b else b)
    ),
)


def _row_beyond(a: Array, b: Array, **turns: bool) -> Array:
    np.lib.stride_tricks.as_strided(b, (b.shape[0] + 1, b.shape[1]), b.strides).copy()
    return KERNELS["matmul"](a, b, **turns)


kernel_fault("matmul reads one row too many, in vain", "contract/bounds", matmul=_row_beyond)
kernel_fault("matmul in float32 where float64 is asked for", "kernels/matmul", matmul=_narrow("matmul"))
kernel_fault("row_dot in float32 where float64 is asked for", "kernels/row_dot", row_dot=_narrow("row_dot"))
kernel_fault(
    "row_dot that leaves the last column out",
    "gradients/vector_dot",
    row_dot=lambda a, b: (a * b)[:, : max(1, max(a.shape[1], b.shape[1]) - 1)].sum(axis=1, keepdims=True),
)
kernel_fault("softmax that overflows", "kernels/limits", softmax=lambda a: np.exp(a) / np.exp(a).sum(axis=1, keepdims=True))
kernel_fault(
    "softmax over the whole matrix", "kernels/softmax", "gradients/softmax", softmax=lambda a: np.exp(a) / np.exp(a).sum()
)
kernel_fault(
    "softmax that takes -infinity for the lowest number",
    "kernels/limits",
    softmax=lambda a: KERNELS["softmax"](np.maximum(a, np.finfo(a.dtype).min)),
)


def _shifted_by_infinity(a: Array) -> Array:
    largest = a.max(axis=1, keepdims=True)
    result: Array = largest + np.log(np.exp(a - largest).sum(axis=1, keepdims=True))
    return result


kernel_fault("logsumexp that subtracts infinity from itself", "kernels/limits", logsumexp=_shifted_by_infinity)
kernel_fault(
    "logsumexp over the columns beyond the first vector only",
    "kernels/logsumexp",
    "gradients/logsumexp",
    "gradients/log_softmax",
    "losses/sparse_categorical_crossentropy",
    logsumexp=lambda a: np.log(np.exp(a[:, :16]).sum(axis=1, keepdims=True)),
)


def _swapped(gates: Array, cell: Array) -> Array:
    f, i, o, g = np.split(gates, 4, axis=1)
    return lstm_cell(np.hstack([i, f, o, g]), cell)


def _wrong_sign(dh: Array, dc: Array, saved: Array, cell: Array) -> Array:
    result = lstm_cell_vjp(dh, dc, saved, cell)
    result[:, : cell.shape[1]] *= -1
    return result


kernel_fault("lstm_cell with input and forget gate exchanged", "kernels/lstm_cell", "gradients/lstm_cell", lstm_cell=_swapped)
kernel_fault(
    "lstm_cell_vjp with the sign of the forget gate wrong",
    "kernels/lstm_cell_vjp",
    "gradients/lstm_cell",
    "layers/lstm",
    lstm_cell_vjp=_wrong_sign,
)
kernel_fault(
    "sigmoid that is cut off at 2",
    "gradients/sigmoid",
    "layers/gru",
    "layers/lstm, coupled",
    "layers/ewma",
    "losses/bpr",
    sigmoid=lambda a: KERNELS["sigmoid"](np.clip(a, -2, 1.5)),
)
kernel_fault(
    "softplus that is cut off at 1", "losses/binary_cross_entropy", softplus=lambda a: KERNELS["softplus"](np.minimum(a, 1))
)
kernel_fault(
    "multiply that gives NaN for large products",
    "losses/warp",
    "gradients/sample",
    "gradients/rank",
    "losses/squared",
    "losses/absolute",
    "losses/huber",
    "losses/hinge",
    multiply=lambda a, b: np.where(np.abs(a * b) > 1.5, np.nan, a * b),
)


def _in_place(a: Array, b: Array) -> Array:
    result: Array = a + b
    if a.shape == result.shape:
        a[...] = result
    return result


kernel_fault("add that leaves its result in its first operand, too", "contract/liveness", add=_in_place)
kernel_fault(
    "float64 computed in float32",
    "contract/float64",
    **{name: _narrow(name) for name in ("add", "subtract", "multiply")},
)
