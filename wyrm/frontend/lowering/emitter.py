"""The emitter: what ops and VJPs are written against. It records kernel calls on symbolic values.

``k.multiply(a, b)`` checks shapes by the kernel table and appends a call; ``k.literal(2.0)`` is a constant. Calls that
change nothing are not recorded: products with the literal 1, transposes that a product can read as they stand, copies that
broadcasting makes superfluous. Optional kernels that the backend lacks are expanded.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

from wyrm.errors import OptionError
from wyrm.frontend.lowering.contributions import (
    are_a_whole,
    are_alike,
    are_apart,
    corner_of,
    is_row,
    is_temporary,
    reads_columns,
    rows_of,
)
from wyrm.frontend.lowering.value import Value
from wyrm.kernels import KERNELS, broadcast_shapes
from wyrm.program import Shape

__all__ = ["Emitter", "part_options"]


class Emitter:
    """Records kernel calls, for a backend with the given optional kernels.

    Attributes
    ----------
    values
        The calls in the order in which they were made; views are none.
    limits
        For each value that holds indices, the rows of the smallest table that it looks up.
    evaluating
        Whether what is random in training is to be left out.
    draws
        The draws, each with the value that ends it; ``None``: the first number stands.
    tables
        The parameters of which single rows may be read where they stand, because nothing changes them before the last read.
    """

    def __init__(
        self, optional_kernels: frozenset[str] = frozenset(), evaluating: bool = False, tables: Container[int] = ()
    ) -> None:
        self.optional_kernels = optional_kernels
        self.evaluating = evaluating
        self.tables = tables
        self.values: list[Value] = []
        self.limits: dict[Value, int] = {}
        self.literals: dict[float, Value] = {}
        self.draws: dict[Value, Value | None] = {}
        self._once: dict[tuple[str, tuple[Value, ...]], Value] = {}
        self._stacks: dict[tuple[Value, ...], Value] = {}
        self._splits: dict[tuple[Value, int], list[Value]] = {}
        self._outcomes: dict[Value, Value] = {}

    def __getattr__(self, name: str) -> Callable[..., Value]:
        """The call of a kernel, as a method, which is made when it is first asked for."""
        if name not in KERNELS:
            raise AttributeError(name)
        setattr(Emitter, name, lambda k, *operands, **attributes: k.call(name, *operands, **attributes))
        return partial(self.call, name)

    def call(self, name: str, *operands: Value, shape: Shape | None = None, **attributes: Any) -> Value:
        """Record a call and return its result; ``shape`` where the kernel table leaves it open."""
        kernel = KERNELS[name]
        if kernel.expansion is not None and name not in self.optional_kernels:
            expanded: Value = kernel.expansion(self, *operands, **attributes)
            return expanded
        if shape is None:
            assert kernel.shape is not None, name
            shape = kernel.shape(*[operand.shape for operand in operands], **attributes)
        if kernel.elementwise:
            for operand in operands:
                if operand.kernel == "copy":
                    operands = _without_copies(operands, shape)
                    break
        return self._record(Value(name, operands, attributes, shape))

    def once(self, name: str, *operands: Value) -> Value:
        """As :meth:`call`, of a kernel without attributes; the result of an earlier such call of the same operands.

        For kernels that compute what several VJPs need, or a forward pass and a VJP, each of which reads its part through
        :meth:`slice`. A result that several read must never be changed in place. Sums of contributions (:meth:`total`,
        :meth:`accumulate`) are taken in place only on values to which there is one reference, and on slices never; this
        method holds a reference of its own, so its results are safe even where they are handed on whole.
        """
        key = name, operands
        if key not in self._once:
            value = self._once[key] = self.call(name, *operands)
            value.uses += 1
        return self._once[key]

    def literal(self, number: float) -> Value:
        """A constant of the program."""
        if number not in self.literals:
            self.literals[number] = Value("", shape=(1, 1), place=("literal", number))
        return self.literals[number]

    # -- calls that may come to less

    def multiply(self, a: Value, b: Value) -> Value:
        """``a * b``."""
        x, y = _number(a), _number(b)
        if x is not None and y is not None:
            return self.reduce(self.literal(x * y), broadcast_shapes(a.shape, b.shape))
        if x == 1 and broadcast_shapes(a.shape, b.shape) == b.shape:
            return b
        if y == 1 and broadcast_shapes(a.shape, b.shape) == a.shape:
            return a
        return self.call("multiply", a, b)

    def negate(self, a: Value) -> Value:
        """``-a``."""
        number = _number(a)
        return self.call("negate", a) if number is None else self.reduce(self.literal(-number), a.shape)

    def sum(self, a: Value, axis: int | None = None) -> Value:
        """The sum of ``a`` along an axis, or of all; the summed axes keep length 1."""
        return self.reduce(a, (1 if axis != 1 else a.shape[0], 1 if axis != 0 else a.shape[1]))

    def reduce(self, a: Value, shape: Shape) -> Value:
        """``a`` brought to a shape: summed along axes of length 1 there, repeated along axes of length 1 here."""
        if a.shape == shape:
            return a
        summed = (1 if shape[0] == 1 else a.shape[0], 1 if shape[1] == 1 else a.shape[1])
        if summed != a.shape:
            a = self.call("sum", a, shape=summed)
        return a if a.shape == shape else self.call("copy", a, shape=shape)

    def transpose(self, a: Value) -> Value:
        """``a.T``; of a vector, the same memory under another shape."""
        if _is_just("transpose", a):
            return a.operands[0]
        rows, cols = a.shape
        if 1 in a.shape:
            return self.reshape(a, (cols, rows))
        return self.call("transpose", a)

    def reshape(self, a: Value, shape: Shape) -> Value:
        """The elements of ``a`` under another shape, row after row; the same memory, where they lie without gaps."""
        if not _is_contiguous(a):
            a = self.call("copy", a, shape=a.shape)
        a.uses += 1
        return Value("view", (a,), shape=shape)

    def slice(self, a: Value, rows: tuple[int, int], cols: tuple[int, int]) -> Value:
        """A range of rows and of columns, from the first to before the last; the same memory, or what was put there."""
        shape = rows[1] - rows[0], cols[1] - cols[0]
        if shape == a.shape:
            return a
        found = self._found(a, (rows[0], cols[0]), shape) if a.onto is None else None
        if found is not None:
            return found
        a.uses += 1
        return Value("slice", (a,), {"row": rows[0], "col": cols[0]}, shape)

    def split(self, a: Value, count: int) -> list[Value]:
        """A matrix as equally many columns ``count`` times, always the same values; as :meth:`once`, safe to hand on."""
        key = a, count
        if key not in self._splits:
            rows, width = a.shape[0], a.shape[1] // count
            parts = self._splits[key] = [self.slice(a, (0, rows), (n * width, (n + 1) * width)) for n in range(count)]
            for part in parts:
                part.uses += 1
        return self._splits[key]

    def _found(self, a: Value, corner: tuple[int, int], shape: Shape) -> Value | None:
        """What was put together to be, among others, this part of a matrix."""
        if a.kernel == "pad":
            inside = a.operands[0]
            if corner == corner_of(a) and shape == inside.shape:
                return inside
            if are_apart(corner, shape, corner_of(a), inside.shape):
                return self.reduce(a.operands[1], shape)
        elif a.kernel == "blocks":
            for part, place in zip(a.operands, a.attributes["places"], strict=True):
                if corner == place and shape == part.shape:
                    return part
        return None

    def blocks(self, parts: Sequence[Value], places: Sequence[tuple[int, int]], shape: Shape) -> Value:
        """Parts put together: part n with its first element at ``places[n]``, which together cover the shape."""
        return self._record(Value("blocks", tuple(parts), {"places": tuple(places)}, shape))

    def pad(self, a: Value, row: int, col: int, shape: Shape) -> Value:
        """``a`` with its first element at (row, col), and zeros around it."""
        return self._record(Value("pad", (a, self.literal(0.0)), {"row": row, "col": col}, shape))

    def _record(self, value: Value) -> Value:
        for operand in value.operands:
            operand.uses += 1
        self.values.append(value)
        return value

    def matmul(self, a: Value, b: Value, transpose_a: bool = False, transpose_b: bool = False) -> Value:
        """``a @ b``, either of them transposed; transposed operands are read as they stand."""
        if _is_just("transpose", a) and not transpose_b:
            a, transpose_a = a.operands[0], not transpose_a
        if _is_just("transpose", b) and not transpose_a:
            b, transpose_b = b.operands[0], not transpose_b
        return self.call("matmul", a, b, transpose_a=transpose_a, transpose_b=transpose_b)

    # -- rows

    def gather(self, table: Value, index: Value) -> Value:
        """``table[index]``; of a parameter, one row is read where it stands if it may be."""
        self._limit(index, table.shape[0])
        if (
            index.place[:1] == ("index",)
            and index.shape[0] == 1
            and table.place[:1] == ("value",)
            and table.place[1] in self.tables
        ):
            return self.row(table.place, index, table.shape[1])
        if table.kernel == "current":  # rows that may be behind: those that are needed
            return self.call("current_rows", *table.operands, index)
        return self.call("gather", table, index)

    def row(self, table: tuple[Any, ...], index: Value, width: int) -> Value:
        """The row that ``index``, an input of one index, names of the table that is found at a place."""
        return Value("", shape=(1, width), place=("row", index.place[1], "", table))

    def pick(self, a: Value, index: Value) -> Value:
        """The element of each row of ``a`` that ``index`` names."""
        self._limit(index, a.shape[1])
        return self.call("pick", a, index)

    def gather_bag(self, table: Value, bag: Value, mean: bool) -> Value:
        """For each bag, the sum or mean of the rows that it names."""
        self._limit(bag, table.shape[0])
        if table.kernel == "current":
            return self.call("current_bag", *table.operands, bag, mean=mean)
        return self.call("gather_bag", table, bag, mean=mean)

    def rows(self, index: Value, rows: Value, shape: Shape) -> Value:
        """A gradient of the given shape that is zero but for these rows: not computed, until somebody needs it whole."""
        return self._rows(index, rows, shape, scatter="scatter", accumulate="accumulate_rows")

    def bag_rows(self, bag: Value, rows: Value, shape: Shape, mean: bool) -> Value:
        """As :meth:`rows`, by a row for each bag."""
        return self._rows(bag, rows, shape, scatter="scatter_bag", accumulate="accumulate_bag", mean=mean)

    def _rows(self, index: Value, rows: Value, shape: Shape, **how: Any) -> Value:
        self._limit(index, shape[0])
        index.uses += 1
        rows.uses += 1
        return Value("rows", (index, rows), how, shape)

    def _limit(self, index: Value, rows: int) -> None:
        index = index.viewed or index  # a part of an input is below what the whole of it is below
        self.limits[index] = min(rows, self.limits.get(index, rows))

    # -- draws

    def draw(self, key: Value, *beside: Value, count: int, **options: Any) -> Value:
        """Numbers that are drawn; ``beside`` are an alias table and a bag of excluded numbers, where there are any."""
        value = Value("draw", (), {"tries": 1, **options}, (count, 1), place=("drawn",))
        value.operands = (key, self.outcome(value), *beside)
        self.draws[value] = None
        if options["excluding"]:
            self._limit(beside[-1], options["rows"])
        return self._record(value)

    def redraw(self, until: Value, drawn: Value, tries: int) -> Value:
        """``until`` as it is in the end, when numbers have been drawn until it was positive."""
        if self.draws.get(drawn) is not None:
            raise OptionError("redraw: two nodes end the draws of one sample; a sample can be drawn again for one node only")
        self.draws[drawn], drawn.attributes["tries"] = until, tries
        return self.reshape(until, until.shape)

    def outcome(self, drawn: Value) -> Value:
        """What is known of a draw beside the numbers: a rank, and whether there was anything to draw."""
        if drawn not in self._outcomes:
            self._outcomes[drawn] = Value("", shape=(1, 2), place=("outcome", len(self._outcomes)))
        return self._outcomes[drawn]

    def rank(self, drawn: Value) -> Value:
        """The rank that the number of draws made stands for."""
        return self.slice(self.outcome(drawn), (0, 1), (0, 1))

    def where_drawn(self, a: Value) -> Value:
        """The value ``a``, but zeros if a draw that excludes numbers had none left."""
        for drawn in self.draws:
            if drawn.attributes["excluding"]:
                found = self.slice(self.outcome(drawn), (0, 1), (1, 2))
                a = self.select(found, a, self.literal(0.0))
                a.uses += 1  # nothing is accumulated onto it
        return a

    # -- sums of contributions

    def total(self, parts: list[Value]) -> Value:
        """The sum of contributions to one gradient, all of one shape."""
        if len(parts) == 1 and parts[0].kernel != "rows":
            return parts[0]
        parts, given = self.products_over_time(parts), len(parts)
        if len(parts) == given and are_a_whole(parts):
            return self.blocks([p.operands[0] for p in parts], [corner_of(p) for p in parts], parts[0].shape)
        if len(parts) > 2 and all(map(is_row, parts)) and are_alike([rows_of(part) for part in parts]):
            return self.sum(self._stacked([rows_of(part) for part in parts]), axis=0)
        total: Value | None = None
        own = [part for part in parts if is_temporary(part)]
        others = [part for part in parts if part.kernel != "rows" and not is_temporary(part)]
        for part in own:
            part.onto, total = total, part
        free = bool(own)  # whether the total may be changed in place
        for part in others:
            total, free = (part, False) if total is None else (self.call("add", total, part), True)
        for part in parts:
            if part.kernel == "rows":
                if total is not None and not free:
                    total = self.call("copy", total, shape=part.shape)
                total, free = self.accumulate(total, part), True
        assert total is not None
        return total

    def products_over_time(self, parts: list[Value]) -> list[Value]:
        """The contributions, of which products a.T @ b, of several a and b, have become one product of all their rows."""
        products = [part for part in parts if is_temporary(part) and reads_columns(part)]
        if len(products) < 2:
            return parts
        left, right = (self._stacked([product.operands[n] for product in products]) for n in (0, 1))
        one = self.matmul(left, right, transpose_a=True)
        one.uses += 1
        return [*(part for part in parts if not (is_temporary(part) and reads_columns(part))), one]

    def _stacked(self, parts: Sequence[Value]) -> Value:
        """Matrices of equally many columns, one below the other; of slices, what they are slices of. Made once."""
        rows, cols = sum(part.shape[0] for part in parts), parts[0].shape[1]
        if are_alike(parts):
            base = parts[0].attributes["col"]
            return self.slice(self._stacked([part.operands[0] for part in parts]), (0, rows), (base, base + cols))
        key = tuple(parts)
        if key not in self._stacks:
            begins = itertools.accumulate([part.shape[0] for part in parts[:-1]], initial=0)
            stack = self._stacks[key] = self.blocks(parts, [(begin, 0) for begin in begins], (rows, cols))
            stack.uses += 1
        return self._stacks[key]

    def accumulate(self, target: Value | None, part: Value) -> Value:
        """Add a contribution onto a target that is free to be changed; without a target, begin with zeros."""
        if part.kernel == "rows":
            value = self.call(part.attributes["scatter"], *part.operands, shape=part.shape, **part_options(part))
        elif target is not None and is_temporary(part):
            value = part
        else:
            value = self.call("copy", part, shape=part.shape)
        value.onto = target
        return value

    # -- effects on parameters

    def effect(self, name: str, target: Value, *operands: Value, **attributes: Any) -> Value:
        """Record a call that changes what belongs to a parameter."""
        value = self.call(name, *operands, shape=target.shape, **attributes)
        value.onto = target
        return value


def part_options(part: Value) -> dict[str, Any]:
    """The attributes that the kernels of a row-sparse contribution take."""
    return {name: value for name, value in part.attributes.items() if name not in ("scatter", "accumulate")}


def _number(value: Value) -> float | None:
    while value.kernel == "copy" and value.onto is None:
        value = value.operands[0]
    number: float | None = value.place[1] if not value.kernel and value.place[:1] == ("literal",) else None
    return number


def _is_contiguous(value: Value) -> bool:
    """Whether a value's elements lie row after row without gaps."""
    if value.kernel != "slice":
        return True
    base = value.operands[0]
    return (value.shape[0] <= 1 or value.shape[1] == base.shape[1]) and _is_contiguous(base)


def _is_just(kernel: str, value: Value) -> bool:
    """Whether a value is the result of a kernel, with nothing accumulated onto it."""
    return value.kernel == kernel and value.onto is None


def _without_copies(operands: tuple[Value, ...], shape: Shape) -> tuple[Value, ...]:
    """The operands of an elementwise call, copies replaced by what they copy where broadcasting gives the same."""
    plain = tuple(o.operands[0] if _is_just("copy", o) else o for o in operands)
    return plain if broadcast_shapes(*(o.shape for o in plain)) == shape else operands
