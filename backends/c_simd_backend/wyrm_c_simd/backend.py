"""The backend: programs as tables, walked by the native library."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import AtOnce, BagSource, Executable, Instruction, Leaves, Program
from wyrm.errors import BackendError, CapabilityError
from wyrm.native import Frame, NativeBackend
from wyrm_c_simd import ENVIRONMENT_VARIABLE
from wyrm_c_simd._native import ffi, lib
from wyrm_c_simd._passes import LAYOUT
from wyrm_c_simd.chains import chain_kernel
from wyrm_c_simd.passes import bound, bound_at_once, setter

__all__ = ["INSTRUCTION_SETS", "CSimdBackend"]


def _instruction_sets() -> dict[str, int]:
    names: dict[str, int] = {}
    while (name := lib.wyrm_instruction_set(len(names))) != ffi.NULL:
        names[ffi.string(name).decode()] = len(names)
    return names


#: The instruction sets that the library was built for, best first, and their numbers there.
INSTRUCTION_SETS = _instruction_sets()


class CSimdBackend(NativeBackend):
    """Kernels for one instruction set: the best that this machine has, or the one that the environment names.

    Attributes
    ----------
    instruction_set
        ``avx512``, ``avx2`` or ``portable``.
    """

    forward: Callable[[int], int] = lib.wyrm_forward
    backward: Callable[[int, float], int] = lib.wyrm_backward
    run: Callable[[int, int, int, int], int] = lib.wyrm_run
    run_team: Callable[[int, int, int, int, int], int] = lib.wyrm_run_team
    layout: str = ffi.string(lib.wyrm_layout()).decode()

    def __init__(self) -> None:
        usable = [name for name, number in INSTRUCTION_SETS.items() if lib.wyrm_runs_here(number)]
        chosen = os.environ.get(ENVIRONMENT_VARIABLE) or usable[0]
        if chosen not in usable:
            known = "was not built into this library" if chosen not in INSTRUCTION_SETS else "is not one that this machine has"
            raise BackendError(
                f"{ENVIRONMENT_VARIABLE}={chosen}: this instruction set {known}; choose one of {', '.join(usable)} or unset it"
            )
        self.instruction_set = chosen
        self._number = INSTRUCTION_SETS[chosen]

    def examine(self) -> None:
        """Refuse a library that was built for another layout, or of which one half was."""
        super().examine()
        if self.layout != LAYOUT:
            raise BackendError(
                f"its libraries were built for different layouts, {self.layout} and {LAYOUT}; reinstall it: "
                f"pip install --force-reinstall wyrm-c-simd"
            )

    def details(self) -> dict[str, str]:
        """The instruction set."""
        return {"instruction set": self.instruction_set}

    def kernel_address(self, instruction: Instruction, dtype: str, often: bool) -> int:
        """Where the library has the kernel for the chosen instruction set."""
        name = chain_kernel(instruction) if instruction.kernel == "fused" else instruction.kernel
        address: int = lib.wyrm_kernel(self._number, dtype == "float64", name.encode())
        if not address:
            raise BackendError(f"the native library has no kernel {instruction.kernel!r}")
        return address

    guards_memory = looks_at_gradients = True

    def passes(self, program: Program, frame: Frame, busy: Sequence[int]) -> tuple[Callable[[], int], Callable[[float], int]]:
        """Functions that cost less to call than those of cffi."""
        return bound(program, frame, busy)

    def at_once(self, program: Program, frame: Frame, busy: Sequence[int]) -> AtOnce:
        """Likewise."""
        return bound_at_once(program, frame, busy)

    def setter(
        self, leaves: Leaves, number: int, limit: int | None = None, held: npt.NDArray[np.int64] | BagSource | None = None
    ) -> Callable[[Any], bool]:
        """For numbers, and for lists of row numbers."""
        return setter(leaves, number, limit, held)

    def step_word(self, code: int, dtype: str) -> int:
        """Where the library has what makes a step."""
        word: int = lib.wyrm_step(self._number, dtype == "float64", code)
        return word

    def loop_address(self, dtype: str) -> int:
        """Where the library has the interpreter of loops for the chosen instruction set."""
        address: int = lib.wyrm_kernel(self._number, dtype == "float64", b"loop")
        return address

    def compile(self, program: Program) -> Executable:
        """Lay the program out, where its rules fit into the library's registers."""
        self.check(program)
        rules = {value for i in program.instructions for name, value in i.attributes if name == "rule"}
        for rule in rules:
            if rule.registers > lib.MAX_REGISTERS or len(rule.states) > lib.MAX_STATES:
                raise CapabilityError(
                    f"the update rule {rule.name!r} has {rule.registers} registers and {len(rule.states)} states; "
                    f"backend {self.name!r} has room for {lib.MAX_REGISTERS} and {lib.MAX_STATES}"
                )
        return super().compile(program)
