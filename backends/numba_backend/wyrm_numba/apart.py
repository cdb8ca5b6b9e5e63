"""Functions of the interpreter that are compiled apart from their callers, and those that Python calls.

Numba compiles a function anew for each constant that it is called with, links it with all that it calls and optimises the whole
again. So functions of the interpreter call each other by names that the linker knows, and each is compiled once: when
something that Python calls first needs it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from wyrm_numba.cache import cached_module
from wyrm_numba.words import address_of, call_compiled, function_type

__all__ = ["apart", "entry_point"]

#: The symbols of what has been compiled.
_COMPILED: set[str] = set()

_APART = '''"""The function {name} of the interpreter."""

from numba import njit

from wyrm_numba.cache import as_if_in
from wyrm_numba.{module} import {name}
from wyrm_numba.options import BARE

compiled = njit("int64({types})", cache=True, **BARE)(as_if_in(__file__, {name}.original))
'''

_ENTRY = '''"""What Python calls as {name}."""

from numba import njit

from wyrm_numba.{module} import {name}
from wyrm_numba.options import OPTIONS


@njit("int64({types})", cache=True, **{{**OPTIONS, "nogil": {nogil}}})
def entry({names}):
    return {name}({names})
'''


def apart(function: Callable[..., Any]) -> Any:
    """Let a function of int64, which returns one, be called by compiled code that is linked with its name alone."""
    symbol = _symbol(function)

    def call(typingctx: Any, *arguments: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = function_type(context, signature)
            target = builder.module.globals.get(symbol) or ir.Function(builder.module, kind, symbol)
            return call_compiled(context, builder, signature, target, values)

        return types.int64(*[types.int64] * len(arguments)), generate

    parameters = inspect.signature(function).parameters.values()
    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    call.__signature__ = inspect.Signature([first, *parameters])  # type: ignore[attr-defined]
    called: Any = intrinsic(call)
    called.original = function
    return called


def entry_point(function: Any, arguments: str, nogil: bool = True) -> Callable[..., Any]:
    """A function of the interpreter for Python to call, with arguments of these types: integers and floats, unchecked."""
    _compile_needed(function)
    original = getattr(function, "original", None) or function.py_func
    module = cached_module(f"entry_{original.__name__}", _source(_ENTRY, original, arguments, nogil))
    (compiled,) = module.entry.overloads.values()
    entry: Callable[..., Any] = compiled.entry_point  # to ask for the types of arguments takes as long as a short pass
    return entry


def _compile_needed(function: Any) -> None:
    """Compile what is called apart, by a function itself or by others that it calls, each after what it needs."""
    original = getattr(function, "original", None)
    if original is not None and _symbol(original) in _COMPILED:
        return
    code = original or function.py_func
    for name in code.__code__.co_names:
        value = code.__globals__.get(name)
        if hasattr(value, "original") or hasattr(value, "py_func"):
            _compile_needed(value)
    if original is not None:
        integers = ", ".join(["int64"] * original.__code__.co_argcount)
        module = cached_module(original.__name__, _source(_APART, original, integers))
        llvmlite.binding.add_symbol(_symbol(original), address_of(module.compiled))
        _COMPILED.add(_symbol(original))


def _symbol(function: Callable[..., Any]) -> str:
    return f"wyrm_numba_{function.__name__}"


def _source(source: str, function: Any, arguments: str, nogil: bool = True) -> str:
    names = ", ".join(f"a{n}" for n in range(arguments.count(",") + 1))
    module = function.__module__.rpartition(".")[2]
    return source.format(name=function.__name__, module=module, types=arguments, names=names, nogil=nogil)
