"""What native code and the Python beside it have to agree on, and the fingerprint by which both know that they do.

Native code finds everything by the positions of words in tables and headers, and by the numbers of kernels, steps and statuses.
A library that was built for other ones would read and write what it was not given, and a package of another version would be
called with what it does not expect. So a native backend carries the fingerprint of the layout that its code was written for
(:attr:`wyrm.native.NativeBackend.layout`), and is refused when it is loaded by a Wyrm that lays programs out in another way.

Who changes the layout adapts the native code of each backend, and then runs ``make layout``, which writes the new fingerprint
into it. A change that :func:`layout` does not see, such as another meaning of a word, raises :data:`REVISION`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import cache
from typing import Any

from wyrm import clocks, leaves, memory, native_chains, native_frames, native_loops, native_runs, turns
from wyrm.kernels import KERNELS

__all__ = ["REVISION", "fingerprint", "layout"]

#: Of the meaning of what stands in the tables.
REVISION = 2
#: The records of :mod:`wyrm.native` and :mod:`wyrm.native_loops`: the names of their words, in order.
_RECORDS = {
    "instruction": ("kernel", "length", "accumulate", "attribute"),
    "operand": ("address", "rows", "columns", "stride"),
    "rule": (
        *("states", "scalars", "literals", "steps", "registers", "literal", "states_per_row", "by_element", "catch_up", "kind"),
        "results",
    ),
    "rule step": ("opcode", "out", "a", "b", "c"),
    "draw": ("rows", "tries", "operands", "table", "bag", "until"),
    "single step": ("code", "out", "a", "b", "c"),
    "chain step": ("opcode", "a", "b", "c"),
    "row": ("index", "table", "stride", "uses", "uses_end"),
    "row use": ("place", "offset"),
    "claim": ("gradient", "rows", "count"),
    "sink": ("address", "stride", "slot", "rows", "columns", "slot_stride", "step"),
    "loop input": ("slot", "table", "row", "ring"),
    "loop use": ("ring", "place", "is_number", "offset"),
}


def layout() -> dict[str, Any]:
    """The layout as data: words and numbers by name, what a backend's methods are called with, and ways that it returns."""
    from wyrm.native import NativeBackend  # which asks for the fingerprint

    headers = (leaves.Leaves, memory.GradientBuffer, clocks.Clock, memory.BagSource, memory.BagBuffer)
    methods = {name: method for name, method in vars(NativeBackend).items() if inspect.isfunction(method)}
    return {
        "revision": REVISION,
        "methods": {name: list(inspect.signature(method).parameters) for name, method in methods.items()},
        "kernels": [[kernel.name, kernel.operands, kernel.elementwise, kernel.optional] for kernel in KERNELS.values()],
        "at once": turns.AtOnce._fields,
        "opcodes": native_chains.OPCODES,
        "chain opcodes": native_chains.CHAIN_OPCODES,
        "forms": native_chains.FORMS,
        "ring": native_loops.RING,
        "headers": {holder.__name__: holder.HEADER for holder in headers},
        "records": _RECORDS,
        "frame": native_frames.FRAME,
        "input": [native_frames.INPUT, native_frames.INPUT_KINDS],
        "order": native_runs.ORDER,
        "joined": native_runs.JOINED,
        "team": native_runs.TEAM,
        "dtypes": memory.SOURCE_DTYPES,
        "statuses": {name: value for name, value in vars(memory.Report).items() if name.isupper()},
    }


@cache
def fingerprint() -> str:
    """Sixteen hexadecimal digits that stand for :func:`layout`."""
    return hashlib.sha256(json.dumps(layout()).encode()).hexdigest()[:16]
