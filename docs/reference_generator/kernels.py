"""The section on kernels, and which of them the backends of this repository declare."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from reference_generator.listing import listing
from reference_generator.text import row
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.value import Value
from wyrm.kernels import KERNELS, Kernel

__all__ = ["PLUGINS", "Declared", "declared", "kernels_section", "kernels_used"]

#: What is used several times and longer than this gets a name.
LONGEST = 16
#: The plugins of the backends of this repository, the reference first.
PLUGINS = ("wyrm.reference", "wyrm_c_simd.plugin", "wyrm_numba.plugin")


class Declared(NamedTuple):
    """A backend's name and the optional kernels that it has."""

    name: str
    kernels: frozenset[str]


def declared() -> list[Declared]:
    """What the backends of this repository declare; none of them is loaded."""
    declarations = [importlib.import_module(plugin).wyrm_backend() for plugin in PLUGINS]
    return [Declared(d.name, d.capabilities.kernels) for d in declarations]


def kernels_used(values: Iterable[Value]) -> set[str]:
    """The kernels of the table among what was recorded."""
    return {value.kernel for value in values} & set(KERNELS)


def expansion(kernel: Kernel, call: Value) -> list[str]:
    """What stands for a call of an optional kernel where a backend lacks it, a formula a line."""
    assert kernel.expansion is not None
    operands = [Value("", shape=operand.shape) for operand in call.operands]
    result = kernel.expansion(Emitter(), *operands, **call.attributes)
    lines = listing([("out", result)], dict(zip(operands, kernel.operands, strict=True)), LONGEST)
    return [f"{name} = {text}" for name, text in lines]


def kernels_section(backends: list[Declared], calls: Mapping[str, Value]) -> list[str]:
    """The section, in lines; ``calls`` has a call of each optional kernel that an op makes."""
    lines = [
        "## Kernels",
        "",
        "What a backend runs: one entry of `KERNELS` in `wyrm/kernels.py` each. Required ones every backend has; optional ones",
        "it may leave out, and gets their expansion instead. `out` is the result, in NumPy's notation. Bags hold indices `i`",
        "with weights `w`, 1 unless they are given; with `mean=True` the weights of a bag are divided by their sum.",
        "",
        row("kernel", "operands", "formula", ""),
        row(*["---"] * 4),
    ]
    for kernel in KERNELS.values():
        operands = ", ".join(f"`{name}`" for name in kernel.operands) or "none"
        kind = "optional" if kernel.optional else "required"
        lines.append(row(f"`{kernel.name}`", operands, f"`{kernel.formula.replace('   ', ' ')}`", kind))
    lines += ["", "What the ops make of optional kernels where a backend lacks them:", ""]
    for kernel in KERNELS.values():
        if kernel.name in calls and kernel.optional:
            having = ", ".join(f"`{b.name}`" for b in backends if kernel.name in b.kernels) or "none"
            lines += [f"`{kernel.name}`, declared by {having}:", "", "```", *expansion(kernel, calls[kernel.name]), "```", ""]
    return lines
