"""Operands and attributes to try each op with: what its shapes and formulas are printed for.

Most ops take matrices of shape (m, n); :data:`EXAMPLES` has those that do not. An op that stands nowhere here and does not take
such matrices is tried with what its case in the conformance suite makes, and its lengths are printed as numbers then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from wyrm_conformance.cases import CASES

import wyrm
from reference_generator.text import LENGTHS
from wyrm.frontend.op import Op
from wyrm.program import Shape

__all__ = ["EXAMPLES", "Example", "examples_of"]

M, N, K, P, Q = (LENGTHS[letter] for letter in "mnkpq")
ROWS, COLS = (LENGTHS["i"], LENGTHS["j"]), (LENGTHS["r"], LENGTHS["s"])


class Example(NamedTuple):
    """An op's operands, by shape, and its attributes; ``label`` tells several of one op apart."""

    shapes: tuple[Shape, ...]
    attributes: dict[str, Any]
    label: str = ""


_AXES = [Example(((M, N),), {"axis": axis}, f"axis={axis}") for axis in (None, 0, 1)]


def _drawn(**options: bool) -> dict[str, Any]:
    return {"rows": N, "count": M, **options}


#: By the op's name.
EXAMPLES: dict[str, list[Example]] = {
    "dot": [Example(((M, K), (K, N)), {})],
    "sum": _AXES,
    "mean": _AXES,
    "reshape": [Example(((M, N),), {"shape": (P, Q)})],
    "slice": [Example(((M, N),), {"rows": ROWS, "cols": COLS})],
    "stack": [
        Example(((M, N), (K, N)), {"axis": 0}, "axis=0"),
        Example(((M, N), (M, K)), {"axis": 1}, "axis=1"),
    ],
    "index": [Example(((M, N), (K, 1)), {})],
    "index_slice": [Example(((M, 1),), {"rows": ROWS})],
    "index_sum": [Example(((M, N), (K, 1)), {})],
    "index_mean": [Example(((M, N), (K, 1)), {})],
    "pick": [Example(((M, N), (M, 1)), {})],
    "sample": [
        Example(((3, 1),), _drawn(weighted=False, excluding=False), "rows=n"),
        Example(((3, 1), (N, 1), (1, 1)), _drawn(weighted=True, excluding=True), "rows=Frequencies, exclude=bag"),
    ],
    "redraw": [Example(((1, 1), (1, 1)), {"tries": K})],
    "rank": [Example(((1, 1), (1, 1)), {})],
    "dropout_mask": [Example(((3, 1), (1, 1)), {"shape": (M, N)})],
    "lstm_cell": [Example(((M, 4 * K), (M, K)), {})],
}


def examples_of(op: Op) -> list[Example]:
    """What to try an op with."""
    if op.name in EXAMPLES:
        return EXAMPLES[op.name]
    plain = Example(((M, N),) * len(op.vjps), {})
    try:
        op.shape(*plain.shapes)
    except (TypeError, ValueError):
        return [_from_case(op)]
    return [plain]


def _from_case(op: Op) -> Example:
    """What the conformance suite's case applies the op to."""
    if op.name not in CASES:
        raise SystemExit(f"{op.name}: give an example of its operands in docs/reference_generator/examples.py")
    rng, case = np.random.default_rng(1), CASES[op.name]
    parameters = [wyrm.ParameterNode(rng.standard_normal(shape)) for shape in case.shapes(rng)]
    structures = [node._structure for node in case.build(rng, parameters)._ancestors()]
    structure = next(s for s in structures if s.op is op)
    return Example(tuple(parent.shape for parent in structure.parents), dict(structure.attributes))
