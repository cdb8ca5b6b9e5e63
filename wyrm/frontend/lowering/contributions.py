"""How contributions to one gradient fit together: products and sums of rows at several steps, parts side by side."""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.frontend.lowering.value import VIEWS, Value
from wyrm.program import Shape

__all__ = ["are_a_whole", "are_alike", "are_apart", "corner_of", "is_row", "is_temporary", "reads_columns", "rows_of"]

#: Values that are found, seen otherwise or not computed yet.
_NOT_COMPUTED = frozenset({"", "rows", *VIEWS})


def is_temporary(value: Value) -> bool:
    """Whether nobody but one sum of contributions refers to a computed value."""
    return value.uses == 1 and value.kernel not in _NOT_COMPUTED and value.onto is None


def reads_columns(value: Value) -> bool:
    """Whether a value is a product a.T @ b."""
    return value.kernel == "matmul" and bool(value.attributes["transpose_a"]) and not value.attributes["transpose_b"]


def corner_of(pad: Value) -> tuple[int, int]:
    """Where a padded matrix begins."""
    return pad.attributes["row"], pad.attributes["col"]


def is_row(value: Value) -> bool:
    """Whether a contribution is a row, or the sum of a matrix's rows."""
    return value.shape[0] == 1 < value.shape[1] and value.kernel != "rows"


def rows_of(value: Value) -> Value:
    """The matrix whose rows add up to a contribution."""
    is_sum = is_temporary(value) and value.kernel == "sum" and value.operands[0].shape[1] == value.shape[1]
    return value.operands[0] if is_sum else value


def are_alike(parts: Sequence[Value]) -> bool:
    """Whether matrices are the same columns, and all rows, of different ones of one width."""
    if any(part.kernel != "slice" for part in parts):
        return False
    bases = [part.operands[0] for part in parts]
    alike = {(b.shape[1], p.shape[1], p.attributes["col"], p.shape[0] == b.shape[0]) for b, p in zip(bases, parts, strict=True)}
    return len(alike) == 1 and all(whole for *_, whole in alike) and len(set(bases)) == len(bases)


def are_apart(corner: tuple[int, int], shape: Shape, other: tuple[int, int], of_other: Shape) -> bool:
    """Whether two parts of a matrix have no element in common."""
    return any(
        begin + length <= second or second + of_second <= begin
        for begin, length, second, of_second in zip(corner, shape, other, of_other, strict=True)
    )


def are_a_whole(parts: Sequence[Value]) -> bool:
    """Whether padded matrices lie beside or below each other, without gaps."""
    if not all(is_temporary(part) and part.kernel == "pad" for part in parts):
        return False
    rows, cols = parts[0].shape
    free = rows * cols
    corners: set[tuple[int, int]] = set()  # where an odd number of matrices meet
    for part in parts:
        (row, col), (height, width) = corner_of(part), part.operands[0].shape
        corners ^= {(r, c) for r in (row, row + height) for c in (col, col + width)}
        free -= height * width
    return free == 0 and corners == {(r, c) for r in (0, rows) for c in (0, cols)}
