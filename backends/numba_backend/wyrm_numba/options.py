"""How everything is compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

__all__ = ["BARE", "OPTIONS", "exact", "inlined", "linked"]

#: Sums may be taken in another order and products fused with sums; NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"reassoc", "contract"},
    "no_rewrites": True,  # of expressions on arrays, of which there are none
}
#: For functions that only compiled code calls, by addresses or names: without the wrappers by which Python and C call.
BARE: dict[str, Any] = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: A function of which every sum and product is computed as it is written.
exact: Any = njit(**{**BARE, "fastmath": False})
#: A function that is a part of its callers.
inlined: Any = njit(**{**OPTIONS, "inline": "always"})
#: A function that callers are linked with.
linked: Any = njit(**BARE)
