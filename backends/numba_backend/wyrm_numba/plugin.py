"""The entry point: declares the backend without loading it."""

from __future__ import annotations

from wyrm.backend import Backend, Capabilities, Declaration
from wyrm.errors import BackendError
from wyrm.hookspecs import hookimpl
from wyrm_numba import ENVIRONMENT_VARIABLE, __version__


def load() -> Backend:
    """The backend, with Numba."""
    from numba.core import config

    if getattr(config, "DISABLE_JIT", False):
        raise BackendError(
            "NUMBA_DISABLE_JIT is set, so Numba would compile nothing, and this backend is nothing but what it compiles; unset "
            "the variable before Numba is imported, or choose another backend"
        )
    from wyrm_numba.backend import NumbaBackend

    return NumbaBackend()


@hookimpl
def wyrm_backend() -> Declaration:
    """Declare the Numba backend."""
    return Declaration(
        name="numba",
        load=load,
        contract=(2, 2),
        version=__version__,
        priority=10,
        capabilities=Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            kernels=frozenset({"fused", "logsumexp", "lookup", "lstm_cell", "lstm_cell_vjp", "row_dot", "softmax"}),
            schedules=frozenset({"hogwild", "synchronized"}),
            releases_gil=True,
        ),
        variants={"warm": {}, "cold": {ENVIRONMENT_VARIABLE: "cold"}},
    )
