"""What a check is: a function with a name, a level and a sentence saying what it protects."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import wyrm
from wyrm.backend import Backend

__all__ = ["CHECKS", "LEVELS", "Check", "Context", "Failure", "check"]

Array = npt.NDArray[Any]

#: In ascending order; each includes those before it.
LEVELS = ("core", "sparse", "training", "parallel")


class Failure(AssertionError):  # noqa: N818 - it is no error of the suite
    """What a backend did and should not have done."""


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
    """

    name: str
    level: str
    protects: str
    function: Callable[[Context], None]


#: All checks, by name, in the order in which they are run.
CHECKS: dict[str, Check] = {}


def check(name: str, level: str, protects: str) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    """Register a function as a check."""
    assert level in LEVELS

    def register(function: Callable[[Context], None]) -> Callable[[Context], None]:
        if name in CHECKS:
            raise ValueError(f"there is a check {name!r} already")
        CHECKS[name] = Check(name, level, protects, function)
        return function

    return register


class Context:
    """What a check works with: the backend, random numbers of its own, and comparisons that are counted.

    Attributes
    ----------
    rng
        Depends on the seed and the check's name alone.
    compared
        How many numbers have been compared.
    worst
        The largest error so far, as a part of what was allowed.
    """

    def __init__(self, backend: Backend, seed: int, name: str) -> None:
        self.backend = backend
        self.rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        self.compared = 0
        self.worst = 0.0

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that the backend declares, the most exact first."""
        return sorted(self.backend.capabilities.dtypes, reverse=True)

    @property
    def exact_backend(self) -> Backend:
        """Where to compute in float64: the backend itself if it can."""
        return self.backend if "float64" in self.dtypes else wyrm.get_backend("reference")

    def compare(self, what: str, actual: Array, expected: Array, tolerance: float) -> None:
        """Require equality up to ``tolerance`` times the larger of 1 and the largest expected number.

        NaN equals NaN alone. Nothing to compare is no failure here; a check that compares nothing at all is.
        """
        actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        if actual.shape != expected.shape:
            raise Failure(f"{what}: expected shape {expected.shape}, got {actual.shape}")
        self.compared += actual.size
        if not actual.size:
            return
        finite = np.abs(expected[np.isfinite(expected)])
        allowed = tolerance * max(1.0, float(finite.max(initial=0)))
        with np.errstate(invalid="ignore"):
            error = np.where(actual == expected, 0.0, np.abs(actual - expected))
        error[np.isnan(actual) & np.isnan(expected)] = 0
        error[np.isnan(error)] = np.inf
        worst = np.unravel_index(int(np.argmax(error)), error.shape)
        self.worst = max(self.worst, float(error[worst]) / allowed if allowed else float(error[worst] > 0))
        if error[worst] > allowed:
            place = tuple(int(n) for n in worst)
            raise Failure(
                f"{what}: element {place} is {float(actual[worst])!r}, expected {float(expected[worst])!r}; "
                f"the error {error[worst]:.3g} is more than {allowed:.3g}"
            )

    def identical(self, what: str, actual: Array, expected: Array) -> None:
        """Require equality to the bit."""
        if actual.dtype != expected.dtype or actual.shape != expected.shape:
            raise Failure(f"{what}: expected {expected.dtype}{expected.shape}, got {actual.dtype}{actual.shape}")
        self.compared += actual.size
        bits = np.dtype(f"u{actual.dtype.itemsize}")
        wrong = np.argwhere(actual.copy().view(bits) != expected.copy().view(bits))
        if len(wrong):
            place = tuple(int(n) for n in wrong[0])
            raise Failure(f"{what}: element {place} changed from {float(expected[place])!r} to {float(actual[place])!r}")

    def require(self, what: str, holds: bool) -> None:
        """Require something that is true or not."""
        self.compared += 1
        if not holds:
            raise Failure(what)
