"""The backend: programs as tables, and for each instruction the address of a kernel compiled for its dtype."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from math import ldexp, prod
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from wyrm.backend import KERNELS, AtOnce, BagSource, Instruction, Leaves, Program, Rule, Slot
from wyrm.borrowed import watched
from wyrm.errors import BackendError
from wyrm.gradient_use import gradients_of, guarded
from wyrm.memory import Source, address
from wyrm.native import Frame, NativeBackend
from wyrm.short_programs import is_short
from wyrm.turns import TIME_ADDRESS, copying
from wyrm_numba import ENVIRONMENT_VARIABLE, interpreter, kernels, runs, team, turns
from wyrm_numba.apart import entry_point
from wyrm_numba.cache import cached_module
from wyrm_numba.chain_source import as_chain, as_fused, chain_source
from wyrm_numba.layout import LAYOUT
from wyrm_numba.rule_source import rule_source
from wyrm_numba.whole_source import whole_source
from wyrm_numba.words import address_of

__all__ = ["NumbaBackend"]

#: The types of numbers that inputs take as they are, beside Python's floats and integers.
REALS = frozenset({int, np.float64, np.float32})
INTEGERS = frozenset({np.int64, np.int32})

_KERNEL = '''"""The kernel {name} for {dtype}."""

from numba import njit, {dtype}

from wyrm_numba.kernels import {name}
from wyrm_numba.options import BARE


@njit("void(int64)", cache=True, **BARE)
def kernel(instruction):
    {name}(instruction, {dtype}(0))
'''

_CHAIN = '''"""Elements of {dtype}: {text}."""

import math

from numba import njit, {dtype}

from wyrm_numba.kernels import elements
from wyrm_numba.options import BARE
from wyrm_numba.vectors import lanes, load_part, many, store_part
from wyrm_numba.words import load, row, store, word

ZERO = {dtype}(0)


@njit("void(int64)", cache=True, **BARE)
def kernel(p):
{body}
'''

_WHOLE = '''"""A whole step of a small program, {dtype}."""

import math

from numba import float32, float64, int32, int64, njit, uint64

from wyrm_numba.interpreter import INPUT_BYTES, INPUTS, LENGTH, LOSSES, POSITIONS, SOURCE
from wyrm_numba.kernels import elements
from wyrm_numba.options import BARE
from wyrm_numba.vectors import load_part, many, store_part, total
from wyrm_numba.words import load, prefetch, real, store, word

ZERO = {dtype}(0)


@njit("int64(int64, int64, int64, int64, int64, int64, int64)", cache=True, **BARE)
def kernel(frame, places, examples, width, start, stop, known):
{body}
'''

_RULE = '''"""The rule {rule} for {dtype}."""

from numba import njit, {dtype}

from wyrm_numba.kernels import elements
from wyrm_numba.options import BARE
from wyrm_numba.vectors import lanes, load_part, many, store_part
from wyrm_numba.words import itemsize, load, real, store, word

ZERO = {dtype}(0)


@njit("void(int64, int64, int64, int64, int64, int64)", cache=True, **BARE)
{apply}'''


#: From so many examples on, code that only one program uses is worth the time that it takes to be compiled.
WORTH_COMPILING = 20_000
#: From so many elements on, a chain is worth it wherever it stands.
LARGE_CHAIN = 20_000


class NumbaBackend(NativeBackend):
    """Kernels compiled by Numba when a program first needs them."""

    layout = LAYOUT
    guards_memory = looks_at_gradients = True

    def __init__(self) -> None:
        self._compiled: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def details(self) -> dict[str, str]:
        """Numba's version, and whether compiled code was there already."""
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        return {"numba": numba.__version__, "cache": "cold" if named == "cold" else "kept"}

    @property
    def forward(self) -> Callable[[int], int]:
        """As the base says; like the others, compiled when it is first needed."""
        return self._entry_point(interpreter.forward, "int64")

    @property
    def backward(self) -> Callable[[int, float], int]:
        """As the base says."""
        return self._entry_point(interpreter.backward, "int64, float64")

    @property
    def run(self) -> Callable[[int, int, int, int], int]:
        """As the base says."""
        return self._entry_point(runs.run_joined, "int64, int64, int64, int64")

    @property
    def run_team(self) -> Callable[[int, int, int, int, int], int]:
        """As the base says."""
        return self._entry_point(team.run_team, "int64, int64, int64, int64, int64")

    def passes(self, program: Program, frame: Frame, busy: Sequence[int]) -> tuple[Callable[[], int], Callable[[float], int]]:
        """As the base says; short steps over memory of our own keep the GIL, and look themselves at who works on gradients."""
        steps, gradients, adopted = program.purpose == "update", gradients_of(frame.memory), frame.memory.adopted
        run, begin = self.backward, frame.address
        backward = guarded(lambda weight: run(begin, ldexp(weight, 0)), gradients)  # a TypeError if it is no number
        if steps and is_short(program) and not adopted:
            return partial(self._entry_point(turns.step, "int64", nogil=False), self._bound(frame, busy)), backward
        forward = partial(self.forward, begin)
        return watched(guarded(forward, gradients) if steps else forward, adopted), watched(backward, adopted)

    def _bound(self, frame: Frame, busy: Sequence[int]) -> int:
        """What functions of :mod:`wyrm_numba.turns` are bound to."""
        return address(frame.keep(np.array([frame.address, len(busy), *busy], np.int64)))

    def at_once(self, program: Program, frame: Frame, busy: Sequence[int]) -> AtOnce | None:
        """Passes of short programs over memory of our own, which keep the GIL."""
        if program.purpose == "update" or not is_short(program) or frame.memory.adopted:
            return None
        run, where = self._entry_point(turns.backward_at_once, "int64, float64", nogil=False), self._bound(frame, busy)
        fresh, begin = self._entry_point(turns.is_fresh, "int64", nogil=False), frame.address

        def backward(weight: float) -> int:
            return run(where, weight if type(weight) is float else ldexp(weight, 0))

        def is_fresh() -> bool:
            return fresh(begin) != 0

        forward = partial(self._entry_point(turns.forward_at_once, "int64", nogil=False), begin)
        return AtOnce(forward, backward, is_fresh, lambda array: copying(array, is_fresh, frame.memory, frame.leaves))

    def setter(
        self, leaves: Leaves, number: int, limit: int | None = None, held: npt.NDArray[np.int64] | BagSource | None = None
    ) -> Callable[[Any], bool] | None:
        """For numbers in cells."""
        if held is not None:
            return None
        header = leaves.header
        words = np.array([address(header), header[turns.GRAPHS], number, TIME_ADDRESS], np.int64)
        where = address(words)
        if limit is None:
            set_real = self._entry_point(turns.set_real, "int64, float64", nogil=False)

            def set_number(value: Any, kept: Any = (leaves, words)) -> bool:
                if type(value) is not float:
                    if type(value) not in REALS:
                        return False
                    try:
                        value = float(value)
                    except OverflowError:
                        return False
                return set_real(where, value) != 0

            return set_number
        set_index = self._entry_point(turns.set_index, "int64, int64", nogil=False)

        def set_row(value: Any, kept: Any = (leaves, words)) -> bool:
            return (type(value) is int or type(value) in INTEGERS) and 0 <= value < limit and set_index(where, value) != 0

        return set_row

    def kernel_address(self, instruction: Instruction, dtype: str, often: bool) -> int:
        """Where the compiled kernel is; compiles it if need be."""
        if instruction.kernel == "fused" and not _is_worth_compiling(instruction, often):
            general = ("single_chain" if instruction.out.shape == (1, 1) else "chain", dtype)
            return self._address(general, lambda: _compiled(*general))
        if _is_elementwise(instruction):
            body = chain_source(instruction)
            return self._address((body, dtype), lambda: _compiled_chain(instruction, dtype, body))
        key = (instruction.kernel, dtype)
        return self._address(key, lambda: _compiled(*key))

    def as_run(self, instruction: Instruction, often: bool) -> Instruction:
        """What is not worth code of its own is interpreted: elementwise instructions as chains."""
        if not _is_elementwise(instruction) or _is_worth_compiling(instruction, often):
            return instruction
        return as_fused(instruction)

    def rule_word(self, rule: Rule, dtype: str) -> int:
        """Where the function of a rule is."""
        return self._address((rule, dtype), lambda: _compiled_rule(rule, dtype))

    def runs_often(self, sources: Sequence[Source]) -> bool:
        """Whether there are examples enough, and the program is not one of as many as sequences have lengths."""
        return max(map(len, sources), default=0) >= WORTH_COMPILING and all(source.starts is None for source in sources)

    def whole(self, program: Program, sources: Sequence[Source]) -> tuple[int, Sequence[Slot]] | None:
        """Small programs as one function each."""
        found = whole_source(program, sources)
        if found is None:
            return None
        source = _WHOLE.format(dtype=program.dtype, body=found.body)
        return self._address(source, lambda: cached_module(f"whole_{program.dtype}", source).kernel), found.places

    def _entry_point(self, function: Any, arguments: str, nogil: bool = True) -> Callable[..., int]:
        found: Callable[..., int] = self._once(function, lambda: entry_point(function, arguments, nogil))
        return found

    def _address(self, key: Any, compiled: Callable[[], Any]) -> int:
        address: int = self._once(key, lambda: address_of(compiled()))
        return address

    def _once(self, key: Any, compiled: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._compiled:
                self._compiled[key] = compiled()
            return self._compiled[key]


def _is_elementwise(instruction: Instruction) -> bool:
    return KERNELS[instruction.kernel].elementwise or instruction.kernel in ("copy", "fused")


def _is_worth_compiling(instruction: Instruction, often: bool) -> bool:
    """Whether it is run often or is large; the code of an instruction alone is what many programs use, but for one element."""
    size = prod(instruction.out.shape)
    return often or size >= LARGE_CHAIN or (size > 1 and instruction.kernel != "fused")


def _compiled_chain(instruction: Instruction, dtype: str, body: str) -> Any:
    """The kernel of an elementwise instruction."""
    source = _CHAIN.format(dtype=dtype, text=as_chain(instruction), body=body)
    return cached_module(f"{instruction.kernel}_{dtype}", source).kernel


def _compiled_rule(rule: Rule, dtype: str) -> Any:
    """The function of a rule."""
    label = re.sub(r"\W", "_", rule.name)
    return cached_module(f"rule_{label}_{dtype}", _RULE.format(rule=label, dtype=dtype, apply=rule_source(rule))).apply


def _compiled(name: str, dtype: str) -> Any:
    """The compiled kernel of a name."""
    if name not in kernels.__all__:
        raise BackendError(f"there is no kernel {name!r}")
    return cached_module(f"{name}_{dtype}", _KERNEL.format(name=name, dtype=dtype)).kernel
