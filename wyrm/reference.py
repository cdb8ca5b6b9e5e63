"""The reference backend: the contract's meaning in NumPy, always there, and registered like any other plugin.

It is what fast backends are measured against, so it is written to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wyrm import backend
from wyrm._version import __version__
from wyrm.hookspecs import hookimpl
from wyrm.kernel_backend import KernelBackend, KernelFunction

Array = npt.NDArray[Any]


def _sigmoid(a: Array) -> Array:
    # exp never overflows: the numerator is exp(a) for a < 0 and 1 elsewhere.
    result: Array = np.exp(np.minimum(a, 0)) / (1 + np.exp(-np.abs(a)))
    return result


def _power(a: Array, b: Array) -> Array:
    # A copy of the exponents: of one that is repeated, NumPy makes square roots and the like, which differ at -infinity.
    result: Array = np.power(a, np.array(np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape))))
    return result


def _select(condition: Array, a: Array, b: Array) -> Array:
    result: Array = np.where(condition != 0, a, b)
    return result


def _matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    result: Array = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    return result


class ReferenceBackend(KernelBackend):
    """NumPy kernels under the kernels-only base class."""

    kernels: ClassVar[Mapping[str, KernelFunction]] = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "divide": np.divide,
        "negate": np.negative,
        "exp": np.exp,
        "log": np.log,
        "sqrt": np.sqrt,
        "absolute": np.absolute,
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "softplus": lambda a: np.logaddexp(a, a.dtype.type(0)),
        "power": _power,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "greater": lambda a, b: (a > b).astype(a.dtype),
        "select": _select,
        "sum": lambda a, axis: a.sum(axis=axis, keepdims=True),
        "row_max": lambda a: a.max(axis=1, keepdims=True, initial=-np.inf),
        "transpose": np.transpose,
        "matmul": _matmul,
    }


@hookimpl
def wyrm_backend() -> backend.Declaration:
    """Declare the reference backend."""
    return backend.Declaration(
        name="reference",
        load=ReferenceBackend,
        contract=(2, 2),
        version=__version__,
        priority=0,
        capabilities=backend.Capabilities(dtypes=frozenset({"float32", "float64"})),
    )
