"""Passes of programs that are driven from Python, what reads values and what sets inputs: a call costs as little as it can.

They are functions of a small module in C beside the one that cffi makes: a call by cffi costs some 50 ns, of which half goes
into leaving the GIL and taking it again. That is worth while where a pass takes longer than the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import pack
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import AtOnce, BagSource, Leaves, Program
from wyrm.borrowed import Adopted
from wyrm.errors import BackendError
from wyrm.memory import address
from wyrm.native import Frame
from wyrm.short_programs import is_short
from wyrm.turns import TIME_ADDRESS
from wyrm_c_simd import _passes
from wyrm_c_simd._native import ffi, lib

__all__ = ["bound", "bound_at_once", "setter"]

_FORWARD, _BACKWARD = [int(ffi.cast("intptr_t", ffi.addressof(lib, name))) for name in ("wyrm_forward", "wyrm_backward")]
_passes.use(_FORWARD, _BACKWARD, np.float64, np.float32, np.int64, np.int32)
_REAL, _INDEX, _INDICES = range(3)


def bound(program: Program, frame: Frame, busy: Sequence[int]) -> tuple[Callable[[], int], Callable[[float], int]]:
    """``forward()`` and ``backward(weight)`` over a frame, which work on gradients alone, if they do."""
    forward, backward = _bound(program, frame, busy, False)
    return forward, backward


def bound_at_once(program: Program, frame: Frame, busy: Sequence[int]) -> AtOnce:
    """The same if they may begin at once."""
    forward, backward, is_fresh = _bound(program, frame, busy, True)
    words = pack("q", frame.address)
    return AtOnce(forward, backward, is_fresh, lambda array: _passes.copying(words, (array.copy, frame)))


def _bound(program: Program, frame: Frame, busy: Sequence[int], at_once: bool) -> tuple[Any, ...]:
    updates = program.purpose == "update"
    adopted = [_expected(array) for array in frame.memory.adopted]
    if any(_passes.changed(words) for words in adopted):
        raise BackendError("it cannot look after the arrays of this version of NumPy that parameters adopt; pass copy=True")
    of_forward, of_backward = _words(frame, busy if updates else (), adopted), _words(frame, busy, adopted)
    return _passes.bind(of_forward, of_backward, frame, is_short(program), at_once)


def _words(frame: Frame, busy: Sequence[int], adopted: Sequence[bytes]) -> bytes:
    return pack(f"{3 + len(busy)}q", frame.address, len(busy), len(adopted), *busy) + b"".join(adopted)


def _expected(adopted: Adopted) -> bytes:
    """What an adopted array has to be, as ``Adopted`` of ``passes.c`` has it."""
    flags, shape, strides, dtype, place = adopted.expected
    axes = len(shape)
    lengths = *shape, *(2 - axes) * (0,), *strides, *(2 - axes) * (0,)
    return pack("9q", id(adopted.array) + object.__basicsize__, place, id(dtype), axes, flags, *lengths)


def setter(
    leaves: Leaves, number: int, limit: int | None, held: npt.NDArray[np.int64] | BagSource | None
) -> Callable[[Any], bool]:
    """What sets an input, as :meth:`wyrm.backend.Backend.setter` says."""
    places = [0, 0, 0, 0]
    if isinstance(held, BagSource):
        places = [
            address(held.values),
            len(held.values),
            address(held.begins),
            address(held.header) + 8 * held.HEADER.index("weights"),
        ]
    elif held is not None:
        places[:2] = address(held), held.size
    begin = leaves.address - 8 * len(leaves.HEADER)
    graphs = leaves.header[leaves.HEADER.index("graphs")]
    words = pack("9q", begin, graphs, number, TIME_ADDRESS, limit or 0, *places)
    kind = _INDICES if held is not None else _REAL if limit is None else _INDEX
    return _passes.setter(words, (leaves, held), kind)
