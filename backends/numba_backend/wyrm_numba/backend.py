"""The backend: programs as tables, and for each instruction the address of a kernel compiled for its dtype."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from typing import Any

import numba

from wyrm.backend import KERNELS, Instruction, Rule
from wyrm.errors import BackendError
from wyrm.native import NativeBackend
from wyrm_numba import ENVIRONMENT_VARIABLE, kernels
from wyrm_numba.cache import cached_module
from wyrm_numba.rule_source import rule_source

__all__ = ["NumbaBackend"]

_ENTRY_POINTS = '''"""The entry points of the interpreter."""

from numba import njit

from wyrm_numba import interpreter, runs, team
from wyrm_numba.options import OPTIONS


@njit("int64(int64)", cache=True, **OPTIONS)
def forward(frame):
    return interpreter.forward(frame)


@njit("int64(int64, float64)", cache=True, **OPTIONS)
def backward(frame, weight):
    return interpreter.backward(frame, weight)


@njit("int64(int64, int64, int64, int64)", cache=True, **OPTIONS)
def run(joined, order, start, stop):
    return runs.run_joined(joined, order, start, stop)


@njit("int64(int64, int64, int64, int64, int64)", cache=True, **OPTIONS)
def run_team(address, thread, order, start, stop):
    return team.run_team(address, thread, order, start, stop)
'''

_KERNEL = '''"""The kernel {name} for {dtype}."""

from numba import cfunc, {dtype}

from wyrm_numba.kernels import {name}
from wyrm_numba.options import OPTIONS


@cfunc("void(int64)", cache=True, **OPTIONS)
def kernel(instruction):
    {name}(instruction, {dtype}(0))
'''

_ELEMENTWISE = '''"""The kernel {name} for {dtype}."""

from numba import cfunc, {dtype}

from wyrm_numba.kernels import elements
from wyrm_numba.kernels.elementwise import {loop}
from wyrm_numba.options import OPTIONS


@cfunc("void(int64)", cache=True, **OPTIONS)
def kernel(instruction):
    {loop}(elements.{name}, instruction, {dtype}(0))
'''

_UPDATE = '''"""The kernel {name} for {dtype}, with the rule {rule}."""

from numba import cfunc, {dtype}, njit

from wyrm_numba.kernels import elements
from wyrm_numba.kernels.updates import {name} as driver
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import itemsize, load, real, store, word

ZERO = {dtype}(0)


{apply}

@cfunc("void(int64)", cache=True, **OPTIONS)
def kernel(instruction):
    driver(apply, {catch_up}, {states}, {timed}, {by_element}, instruction, ZERO)
'''


class NumbaBackend(NativeBackend):
    """Kernels compiled by Numba when a program first needs them."""

    forward: Callable[[int], int]
    backward: Callable[[int, float], int]
    run: Callable[[int, int, int, int], int]
    run_team: Callable[[int, int, int, int, int], int]

    def __init__(self) -> None:
        entry = cached_module("interpreter", _ENTRY_POINTS)
        self.forward = entry.forward
        self.backward = entry.backward
        self.run = entry.run
        self.run_team = entry.run_team
        self._kernels: dict[tuple[str, str, Rule | None], Any] = {}
        self._lock = threading.Lock()

    def details(self) -> dict[str, str]:
        """Numba's version, and whether compiled code was there already."""
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        return {"numba": numba.__version__, "cache": "cold" if named == "cold" else "kept"}

    def kernel_address(self, instruction: Instruction, dtype: str) -> int:
        """Where the compiled kernel is; compiles it if need be."""
        rule: Rule | None = dict(instruction.attributes).get("rule")
        key = (instruction.kernel, dtype, rule)
        with self._lock:
            if key not in self._kernels:
                self._kernels[key] = _compile(*key)
            address: int = self._kernels[key].address
            return address


def _compile(name: str, dtype: str, rule: Rule | None) -> Any:
    """The compiled kernel of a name; for updates, of a rule."""
    if rule is not None:
        label = re.sub(r"\W", "_", rule.name)
        source = _UPDATE.format(
            name=name,
            dtype=dtype,
            rule=label,
            apply=rule_source(rule),
            catch_up="apply" if rule.catch_up is None else "catch_up",
            states=len(rule.states),
            timed=rule.catch_up is not None,
            by_element=rule.by_element,
        )
        return cached_module(f"{name}_{label}_{dtype}", source).kernel
    if KERNELS[name].elementwise or name == "copy":
        loop = ("unary", "binary", "ternary")[len(KERNELS[name].operands) - 1]
        return cached_module(f"{name}_{dtype}", _ELEMENTWISE.format(name=name, dtype=dtype, loop=loop)).kernel
    if name not in kernels.__all__:
        raise BackendError(f"there is no kernel {name!r}")
    return cached_module(f"{name}_{dtype}", _KERNEL.format(name=name, dtype=dtype)).kernel
