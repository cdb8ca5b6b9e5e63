"""The entry point: declares the backend without loading it."""

from __future__ import annotations

from wyrm.backend import Backend, Capabilities, Declaration
from wyrm.hookspecs import hookimpl
from wyrm_c_simd import ENVIRONMENT_VARIABLE, __version__


def load() -> Backend:
    """The backend, with its native library."""
    from wyrm_c_simd.backend import CSimdBackend

    return CSimdBackend()


@hookimpl
def wyrm_backend() -> Declaration:
    """Declare the C backend."""
    return Declaration(
        name="c_simd",
        load=load,
        contract=(2, 2),
        version=__version__,
        priority=20,
        capabilities=Capabilities(
            dtypes=frozenset({"float32", "float64"}),
            kernels=frozenset({"fused", "logsumexp", "lookup", "lstm_cell", "lstm_cell_vjp", "row_dot", "softmax"}),
            schedules=frozenset({"hogwild", "synchronized"}),
            releases_gil=True,
        ),
        variants={name: {ENVIRONMENT_VARIABLE: name} for name in ("portable", "avx2", "avx512")},
    )
