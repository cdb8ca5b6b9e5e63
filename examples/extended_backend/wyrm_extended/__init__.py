"""An example of a backend, kernels only: every kernel is computed in NumPy's widest floating-point type and rounded once.

Slow, and of use: what it computes differs from the true value by the rounding of each kernel's result alone, so it shows how
much another backend's error owes to its kernels.

A real package would keep the hook in a module of its own that imports nothing heavy, and the kernels in another; here both fit
on a page.
"""

from collections.abc import Callable

import numpy as np

from wyrm.backend import Backend, Capabilities, Declaration
from wyrm.hookspecs import hookimpl

__version__ = "0.1.0"

Array = np.ndarray
WIDE = np.longdouble


def wide(kernel: Callable[..., Array]) -> Callable[..., Array]:
    """A kernel whose operands are widened. Wyrm rounds the result when it stores it."""

    def widened(*operands: Array, **attributes: object) -> Array:
        return kernel(*(operand.astype(WIDE) for operand in operands), **attributes)

    return widened


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), by the exponential that cannot overflow."""
    e = np.exp(-np.abs(a))
    return np.where(a < 0, e, 1) / (1 + e)


def matmul(a: Array, b: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    """The product of matrices, either of them transposed."""
    return (a.T if transpose_a else a) @ (b.T if transpose_b else b)


#: One function for each kernel that wyrm.kernels.KERNELS requires, as formulas on arrays; and an optional one, row_dot.
KERNELS: dict[str, Callable[..., Array]] = {
    "add": wide(lambda a, b: a + b),
    "subtract": wide(lambda a, b: a - b),
    "multiply": wide(lambda a, b: a * b),
    "divide": wide(lambda a, b: a / b),
    "negate": wide(lambda a: -a),
    "exp": wide(np.exp),
    "log": wide(np.log),
    "sqrt": wide(np.sqrt),
    "absolute": wide(np.absolute),
    "tanh": wide(np.tanh),
    "softplus": wide(lambda a: np.logaddexp(a, WIDE(0))),
    "power": wide(lambda a, b: np.power(a, np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape)).copy())),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda a, b: a > b,
    "select": lambda condition, a, b: np.where(condition != 0, a, b),
    "row_max": lambda a: a.max(axis=1, keepdims=True, initial=-np.inf),
    "sigmoid": wide(sigmoid),
    "sum": wide(lambda a, axis: a.sum(axis=axis, keepdims=True)),
    "transpose": np.transpose,
    "matmul": wide(matmul),
    "row_dot": wide(lambda a, b: (a * b).sum(axis=1, keepdims=True)),
}


def load() -> Backend:
    """The backend; Wyrm calls this when it is first needed."""
    from wyrm.kernel_backend import KernelBackend

    class ExtendedBackend(KernelBackend):
        """Kernels in extended precision; everything else is inherited."""

        kernels = KERNELS

    return ExtendedBackend()


@hookimpl
def wyrm_backend() -> Declaration:
    """Declare the backend to Wyrm."""
    return Declaration(
        name="extended",
        load=load,
        contract=(2, 2),
        version=__version__,
        priority=-10,  # taken only when it is asked for
        capabilities=Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            kernels=frozenset({"row_dot"}),
            schedules=frozenset({"hogwild"}),
        ),
    )
