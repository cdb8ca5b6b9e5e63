"""How everything is compiled."""

from __future__ import annotations

from typing import Any

#: Sums may be taken in another order and products fused with sums; NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "fastmath": {"reassoc", "contract"},
}
