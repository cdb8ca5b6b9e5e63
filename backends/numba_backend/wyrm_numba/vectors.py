"""Vectors of real numbers: what kernels compute with where the compiler would not find that it may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from wyrm_numba.arithmetic import FLAGS

__all__ = [
    "LANES",
    "Vector",
    "lanes",
    "load_lanes",
    "load_part",
    "many",
    "room",
    "splat",
    "store_lanes",
    "store_part",
    "total",
    "total_of",
    "totals_of",
]

#: Bytes of a vector: of the widest registers that processors have. Narrower ones take several.
_BYTES = 64
#: Numbers in a vector, by dtype.
LANES = {"float32": 16, "float64": 8}
_INT32 = ir.IntType(32)


class Vector(types.Type):
    """The type of a vector of numbers of a dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")

    @property
    def bitwidth(self) -> int:
        """Of each number."""
        return int(self.dtype.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES[kind.dtype.name]))  # type: ignore[no-untyped-call]


# --- for those who write LLVM code ----------------------------------------------------------------------------------


def splat(builder: Any, number: Any, kind: Any) -> Any:
    """A vector with a number in every lane."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, _INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, kind.count), [0] * kind.count))


def load_lanes(builder: Any, address: Any, kind: Any, count: Any = None, others: Any = None) -> Any:
    """A vector from an address; with ``count``, only so many numbers, and in the other lanes those of ``others``, or 0."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    if count is None:
        return builder.load(pointer, align=_size(kind))
    others = ir.Constant(kind, None) if others is None else others
    return _masked(builder, "load", kind, kind, [pointer, _INT32(_size(kind)), _below(builder, count, kind.count), others])


def store_lanes(builder: Any, address: Any, vector: Any, count: Any = None) -> None:
    """Put a vector at an address; with ``count``, only so many numbers."""
    kind = vector.type
    pointer = builder.inttoptr(address, kind.as_pointer())
    if count is None:
        builder.store(vector, pointer, align=_size(kind))
    else:
        arguments = [vector, pointer, _INT32(_size(kind)), _below(builder, count, kind.count)]
        _masked(builder, "store", kind, ir.VoidType(), arguments)


def total_of(builder: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""
    element = vector.type.element
    arguments = [ir.Constant(element, -0.0), vector]
    function = _function(builder, "llvm.vector.reduce.fadd", vector.type, element, arguments)
    return builder.call(function, arguments, fastmath=FLAGS)


def totals_of(builder: Any, vectors: Sequence[Any]) -> Any:
    """The sums of vectors, of as many as they have lanes or of a smaller power of two, as one vector.

    Two vectors at a time become one, in which each has every other block of lanes: that takes three instructions.
    """
    lanes = vectors[0].type.count
    sums, block = list(vectors), 1
    while block < lanes:
        pairs = list(zip(sums[::2], sums[1::2], strict=True)) if len(sums) > 1 else [(sums[0], sums[0])]
        first = [lane if not lane & block else lanes + (lane ^ block) for lane in range(lanes)]
        second = [lane ^ block if not lane & block else lanes + lane for lane in range(lanes)]
        sums = [builder.fadd(*(_shuffled(builder, *pair, order) for order in (first, second)), flags=FLAGS) for pair in pairs]
        block *= 2
    return _shuffled(builder, sums[0], sums[0], range(len(vectors)))


def _shuffled(builder: Any, a: Any, b: Any, order: Sequence[int]) -> Any:
    """Lanes of two vectors, those of the second counted on."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT32, len(order)), list(order)))


def _size(kind: Any) -> int:
    """The bytes of each number."""
    return 4 if kind.element == ir.FloatType() else 8


def _below(builder: Any, count: Any, number: int) -> Any:
    """A mask of the lanes below a count."""
    kind = ir.VectorType(_INT32, number)
    return builder.icmp_signed("<", ir.Constant(kind, list(range(number))), splat(builder, builder.trunc(count, _INT32), kind))


def _masked(builder: Any, name: str, kind: Any, result: Any, arguments: list[Any]) -> Any:
    return builder.call(_function(builder, f"llvm.masked.{name}", kind, result, arguments, ".p0"), arguments)


def _function(builder: Any, name: str, kind: Any, result: Any, arguments: list[Any], end: str = "") -> Any:
    full = f"{name}.v{kind.count}f{8 * _size(kind)}{end}"
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.module.globals.get(full) or ir.Function(builder.module, signature, full)


# --- for those who write Python -------------------------------------------------------------------------------------


@intrinsic
def many(typingctx: Any, number: Any) -> Any:
    """A vector with a number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return splat(builder, arguments[0], context.get_value_type(signature.return_type))

    return Vector(number)(number), generate


@intrinsic
def lanes(typingctx: Any, vector: Any) -> Any:
    """How many numbers a vector has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.IntType(64), LANES[vector.dtype.name])

    return types.int64(vector), generate


@intrinsic(prefer_literal=True)
def room(typingctx: Any, count: Any, vector: Any) -> Any:
    """The address of memory for so many vectors, or numbers of another kind, while the function runs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.ArrayType(context.get_value_type(vector), count.literal_value)
        memory = cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call]
        return builder.ptrtoint(memory, ir.IntType(64))

    return types.int64(count, vector), generate


def _at(builder: Any, arguments: Any, vector: Any) -> Any:
    """The address of the number at a position."""
    return builder.add(arguments[0], builder.mul(arguments[1], ir.Constant(ir.IntType(64), vector.bitwidth // 8)))


@intrinsic
def load_part(typingctx: Any, address: Any, index: Any, count: Any, vector: Any) -> Any:
    """Up to ``count`` numbers from position ``index`` of an address, in the lanes behind them those of ``vector``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(vector)
        return load_lanes(builder, _at(builder, arguments, vector), kind, arguments[2], arguments[3])

    return vector(types.int64, types.int64, types.int64, vector), generate


@intrinsic
def store_part(typingctx: Any, address: Any, index: Any, count: Any, vector: Any) -> Any:
    """Put up to ``count`` numbers of a vector at position ``index`` from an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        store_lanes(builder, _at(builder, arguments, vector), arguments[3], arguments[2])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, vector), generate


@intrinsic
def total(typingctx: Any, vector: Any) -> Any:
    """The sum of a vector's numbers."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return total_of(builder, arguments[0])

    return vector.dtype(vector), generate
