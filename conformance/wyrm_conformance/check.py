"""What a check is: a function with a name, a level, a sentence saying what it protects, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from wyrm.backend import Capabilities
from wyrm_conformance.context import Array, Context, Failure

__all__ = ["CHECKS", "LEVELS", "REQUIRED", "SECTIONS", "Array", "Check", "Context", "Failure", "check", "declares"]

#: In ascending order; each includes those before it.
LEVELS = ("core", "sparse", "training", "parallel")

#: What a backend must declare to reach a level, in the words of :func:`declares`. None requires float64 or releasing the GIL.
REQUIRED: dict[str, tuple[str, ...]] = {
    "core": ("float32",),
    "sparse": (),
    "training": (),
    "parallel": ("hogwild",),
}

#: The part of the contract that the checks of each family come from.
SECTIONS = {
    "contract": "wyrm/backend.py",
    "kernels": "wyrm/kernels.py: KERNELS",
    "gradients": "docs/design.md: The frontend, Derivatives",
    "layers": "docs/design.md: The frontend, Derivatives",
    "losses": "docs/design.md: The frontend, Derivatives",
    "sparse": "docs/design.md: Row-sparse gradients",
    "draws": "docs/design.md: The frontend, Randomness",
    "optimizers": "docs/design.md: Row-sparse gradients, The order within a step",
    "training": "docs/design.md: Training",
    "parallel": "docs/design.md: Training, hogwild",
}


class Check(NamedTuple):
    """One check.

    Attributes
    ----------
    name
        ``family/subject``.
    level
        One of :data:`LEVELS`.
    protects
        What would go wrong unnoticed without it.
    function
        Raises :class:`Failure`.
    section
        Where the contract says so.
    requires
        Capabilities. Where one is not declared, the check that it is refused takes the place of this one.
    at_least
        How many numbers must have been compared.
    """

    name: str
    level: str
    protects: str
    function: Callable[[Context], None]
    section: str = ""
    requires: tuple[str, ...] = ()
    at_least: int = 1


#: All checks, by name, in the order in which they are run.
CHECKS: dict[str, Check] = {}


def check(
    name: str, level: str, protects: str, *, section: str = "", requires: Iterable[str] = (), at_least: int = 1
) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    """Register a function as a check."""
    assert level in LEVELS

    def register(function: Callable[[Context], None]) -> Callable[[Context], None]:
        if name in CHECKS:
            raise ValueError(f"there is a check {name!r} already")
        where = section or SECTIONS.get(name.split("/")[0], "docs/design.md")
        CHECKS[name] = Check(name, level, protects, function, where, tuple(requires), at_least)
        return function

    return register


def declares(capabilities: Capabilities, word: str) -> bool:
    """Whether a capability is declared: a dtype, an optional kernel, a schedule, or ``releases_gil``."""
    if word == "releases_gil":
        return capabilities.releases_gil
    return word in capabilities.dtypes | capabilities.kernels | capabilities.schedules
