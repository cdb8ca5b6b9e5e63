"""Memory at addresses, for compiled code: words of tables, real numbers, and calls of functions by address.

Compiled functions call each other as Numba does, without wrappers: :func:`address_of` is of the function itself.

``zero`` is a number of the type that is meant, so that one kernel serves float32 and float64; or a vector of such numbers.
"""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "address_of",
    "call",
    "call_compiled",
    "call_rule",
    "call_whole",
    "compare_and_set",
    "count_up",
    "function_type",
    "itemsize",
    "load",
    "prefetch",
    "publish",
    "real",
    "release",
    "row",
    "seen",
    "store",
    "word",
    "yield_core",
    "zeroed",
]

_WORD = ir.IntType(64)


def _pointer(builder: Any, address: Any, index: Any, kind: Any) -> Any:
    """Where the number at a position is, or the vector that begins with it."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    base = builder.inttoptr(address, element.as_pointer())
    return builder.bitcast(builder.gep(base, [index], source_etype=element), kind.as_pointer())


def address_of(function: Any) -> int:
    """Where the code of a function is that was compiled for one signature."""
    (compiled,) = function.overloads.values()
    address: int = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    return address


def function_type(context: Any, signature: Any) -> Any:
    """LLVM's type of a compiled function."""
    return context.call_conv.get_function_type(signature.return_type, signature.args)


def call_compiled(context: Any, builder: Any, signature: Any, function: Any, arguments: Any) -> Any:
    """What a compiled function returns, which raises nothing."""
    _, result = context.call_conv.call_function(builder, function, signature.return_type, signature.args, arguments)
    return result


@intrinsic
def load(typingctx: Any, address: Any, index: Any, zero: Any) -> Any:
    """The number of ``zero``'s type at position ``index`` from an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(zero)
        return builder.load(_pointer(builder, arguments[0], arguments[1], kind), align=zero.bitwidth // 8, typ=kind)

    return zero(types.int64, types.int64, zero), generate


@intrinsic
def store(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
    """Put a number at position ``index`` from an address."""
    value = types.unliteral(value)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(value)
        builder.store(arguments[2], _pointer(builder, arguments[0], arguments[1], kind), align=value.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, value), generate


@intrinsic
def word(typingctx: Any, address: Any, index: Any) -> Any:
    """The int64 at position ``index`` from an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(builder, arguments[0], arguments[1], _WORD), align=8, typ=_WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def count_up(typingctx: Any, address: Any, index: Any) -> Any:
    """Add 1 to the int64 at position ``index`` from an address, whatever other threads do to it; returns what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], _WORD)
        return builder.atomic_rmw("add", pointer, _WORD(1), "acq_rel")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def compare_and_set(typingctx: Any, address: Any, index: Any, expected: Any, value: Any) -> Any:
    """Replace the int64 at position ``index`` from an address where it is as expected; whether it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(builder, arguments[0], arguments[1], _WORD)
        result = builder.cmpxchg(pointer, arguments[2], arguments[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64, types.int64, types.int64, types.int64), generate


@intrinsic
def seen(typingctx: Any, address: Any, index: Any) -> Any:
    """The int64 at position ``index`` from an address, with all that its thread wrote before it published it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_pointer(builder, arguments[0], arguments[1], _WORD), "acquire", 8, typ=_WORD)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def publish(typingctx: Any, address: Any, index: Any, value: Any) -> Any:
    """Put an int64 at position ``index`` from an address, and let who sees it see all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[2], _pointer(builder, arguments[0], arguments[1], _WORD), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def yield_core(typingctx: Any) -> Any:
    """Let another thread have the core."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = "SwitchToThread" if os.name == "nt" else "sched_yield"
        kind = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def itemsize(typingctx: Any, zero: Any) -> Any:
    """The bytes that a number of ``zero``'s type takes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _WORD(zero.bitwidth // 8)

    return types.int64(zero), generate


@intrinsic
def row(typingctx: Any, instruction: Any, operand: Any, i: Any, zero: Any) -> Any:
    """The address of row i of an instruction's operand, counted from the result."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        instruction, operand, i, _ = arguments
        first = builder.add(instruction, builder.mul(operand, _WORD(32)))  # of four words for each
        begin, stride = (builder.load(_pointer(builder, first, _WORD(n), _WORD), typ=_WORD) for n in (4, 7))
        return builder.add(begin, builder.mul(builder.mul(i, stride), _WORD(zero.bitwidth // 8)))

    return types.int64(types.int64, types.int64, types.int64, zero), generate


def _call_at(context: Any, builder: Any, returns: Any, where: Any, words: Any) -> Any:
    """Call the function of int64 that stands at an address."""
    own = returns(*[types.int64] * len(words))
    kind = function_type(context, own)
    return call_compiled(context, builder, own, builder.inttoptr(where, kind.as_pointer()), words)


def _elements(builder: Any, values: Any, count: int) -> list[Any]:
    return [builder.extract_value(values, n) for n in range(count)]


@intrinsic
def call(typingctx: Any, function: Any, argument: Any) -> Any:
    """Call the function of one int64 that stands at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call_at(context, builder, types.void, values[0], values[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def call_whole(typingctx: Any, function: Any, arguments: Any) -> Any:
    """Call the function of a whole program (:mod:`wyrm_numba.whole_source`) that stands at an address; returns a position."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _call_at(context, builder, types.int64, values[0], _elements(builder, values[1], len(arguments)))

    return types.int64(types.int64, arguments), generate


@intrinsic
def call_rule(typingctx: Any, function: Any, arguments: Any) -> Any:
    """Call the function of an update rule (:mod:`wyrm_numba.rule_source`) that stands at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call_at(context, builder, types.void, values[0], _elements(builder, values[1], len(arguments)))
        return context.get_dummy_value()

    return types.void(types.int64, arguments), generate


@intrinsic
def real(typingctx: Any, number: Any, zero: Any) -> Any:
    """A number converted to ``zero``'s type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], number, zero)

    return zero(number, zero), generate


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which may be any."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line, flag, flag, flag])
        function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(arguments[0], line), flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _library_function(builder: Any, name: str, kind: Any) -> Any:
    """A function of C's library."""
    return builder.module.globals.get(name) or ir.Function(builder.module, kind, name)


@intrinsic
def zeroed(typingctx: Any, count: Any) -> Any:
    """The address of so many int64 of 0, to be released; 0 if there is no memory for them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), [_WORD, _WORD])
        memory = builder.call(_library_function(builder, "calloc", kind), [arguments[0], _WORD(8)])
        return builder.ptrtoint(memory, _WORD)

    return types.int64(types.int64), generate


@intrinsic
def release(typingctx: Any, address: Any) -> Any:
    """Give back memory that :func:`zeroed` has given."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.IntType(8).as_pointer()
        builder.call(
            _library_function(builder, "free", ir.FunctionType(ir.VoidType(), [line])), [builder.inttoptr(arguments[0], line)]
        )
        return context.get_dummy_value()

    return types.void(types.int64), generate
