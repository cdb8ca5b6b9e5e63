"""How everything is compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

__all__ = ["OPTIONS", "inlined", "linked"]

#: Sums may be taken in another order and products fused with sums; NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"reassoc", "contract"},
    "no_rewrites": True,  # of expressions on arrays, of which there are none
}
#: A function that is a part of its callers.
inlined: Any = njit(**{**OPTIONS, "inline": "always"})
#: A function that callers are linked with: not for Python to call, so it needs no wrappers.
linked: Any = njit(**{**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True})
