"""What a check works with: the backend, random numbers of its own, comparisons that are counted, and oracles."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend
from wyrm_conformance.guard import Guard

__all__ = ["Array", "Context", "Failure", "ulps"]

Array = npt.NDArray[Any]


class Failure(AssertionError):  # noqa: N818 - it is no error of the suite
    """What a backend did and should not have done.

    Attributes
    ----------
    details
        By name, what a reader wants to see beside the message: the formula, the inputs, the two values, the error.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Context:
    """What a check works with.

    Attributes
    ----------
    rng
        Depends on the seed and the check's name alone.
    compared
        How many numbers have been compared.
    worst
        The largest error so far, as a part of what was allowed.
    """

    def __init__(self, backend: Backend, seed: int, name: str, factor: float = 1.0, guard: Guard | None = None) -> None:
        self.backend = backend
        self.rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        self.factor = factor
        self.compared = 0
        self.worst = 0.0
        self._guard = guard
        self._formula = ""
        self._inputs: dict[str, Array] = {}

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that the backend declares, the most exact first."""
        return sorted(self.backend.capabilities.dtypes, reverse=True)

    @property
    def is_reference(self) -> bool:
        """Whether the reference itself is checked."""
        return self._guard is not None and self._guard.subject

    @contextmanager
    def oracle(self) -> Iterator[str]:
        """A block in which the reference may compute; elsewhere in a check its kernels raise. Gives the reference's name."""
        if self._guard is None:
            yield "reference"
        else:
            with self._guard.lifted():
                yield "reference"

    def case(self, formula: str, **inputs: Any) -> None:
        """Say what comparisons from now on are about: a failure shows the formula and, where they are small, the inputs."""
        self._formula = formula
        self._inputs = {name: np.asarray(value) for name, value in inputs.items()}

    # -- comparisons

    def compare(self, what: str, actual: Any, expected: Any, tolerance: float) -> None:
        """Require equality up to ``tolerance`` times the larger of 1 and the largest expected number.

        NaN equals NaN alone. Nothing to compare is no failure here; a check that compares nothing at all is.
        """
        actual, expected = self._same_shape(what, np.asarray(actual, np.float64), np.asarray(expected, np.float64))
        finite = np.abs(expected[np.isfinite(expected)])
        allowed = tolerance * max(1.0, float(finite.max(initial=0)))
        with np.errstate(invalid="ignore"):
            error = np.where(actual == expected, 0.0, np.abs(actual - expected))
        error[np.isnan(actual) & np.isnan(expected)] = 0
        error[np.isnan(error)] = np.inf
        self._judge(what, actual, expected, error, allowed, "")

    def within_ulps(self, what: str, actual: Array, expected: Array, bound: float) -> None:
        """Require equality up to ``bound`` units in the last place of ``actual``'s dtype; ``expected`` may be wider.

        NaN equals NaN alone, and a zero must have the right sign.
        """
        self._same_shape(what, actual, expected)
        self._judge(what, actual, expected, ulps(actual, expected), bound + (0.01 if bound else 0.0), " ulp")

    def identical(self, what: str, actual: Array, expected: Array) -> None:
        """Require equality to the bit."""
        if actual.dtype != expected.dtype or actual.shape != expected.shape:
            raise self.failure(f"{what}: expected {expected.dtype}{expected.shape}, got {actual.dtype}{actual.shape}")
        self.compared += actual.size
        bits = np.dtype(f"u{actual.dtype.itemsize}")
        wrong = np.argwhere(actual.copy().view(bits) != expected.copy().view(bits))
        if len(wrong):
            place = tuple(int(n) for n in wrong[0])
            raise self.failure(
                f"{what}: element {place} changed from {float(expected[place])!r} to {float(actual[place])!r}",
                actual=float(actual[place]),
                expected=float(expected[place]),
            )

    def require(self, what: str, holds: bool) -> None:
        """Require something that is true or not."""
        self.compared += 1
        if not holds:
            raise self.failure(what)

    def failure(self, message: str, **details: Any) -> Failure:
        """A failure that shows the case at hand."""
        if self._formula:
            details.setdefault("formula", self._formula)
        details.setdefault("inputs", {name: _shown(value) for name, value in self._inputs.items()})
        return Failure(message, **details)

    def _same_shape(self, what: str, actual: Array, expected: Array) -> tuple[Array, Array]:
        if actual.shape != expected.shape:
            raise self.failure(f"{what}: expected shape {expected.shape}, got {actual.shape}")
        self.compared += actual.size
        return actual, expected

    def _judge(self, what: str, actual: Array, expected: Array, error: Array, allowed: float, unit: str) -> None:
        if not error.size:
            return
        allowed *= self.factor
        worst = np.unravel_index(int(np.argmax(error)), error.shape)
        found = float(error[worst])
        self.worst = max(self.worst, found / allowed if allowed else (np.inf if found else 0.0))
        if found > allowed:
            place = tuple(int(n) for n in worst)
            raise self.failure(
                f"{what}: element {place} is {float(actual[worst])!r}, expected {float(expected[worst])!r}; "
                f"the error {found:.3g}{unit} is more than {allowed:.3g}",
                actual=float(actual[worst]),
                expected=float(expected[worst]),
                error=found,
                allowed=allowed,
            )


def ulps(actual: Array, expected: Array) -> Array:
    """The errors in units in the last place of ``actual``'s dtype.

    Infinite where one alone is NaN or infinite, or a zero has the wrong sign. Below the smallest normal number the unit
    is that of the smallest normal number.
    """
    dtype = actual.dtype
    with np.errstate(all="ignore"):
        rounded = expected.astype(dtype)
        same = (actual == rounded) | (np.isnan(actual) & np.isnan(rounded))
        same &= (rounded != 0) | (np.signbit(actual) == np.signbit(rounded))
        finite = np.isfinite(actual) & np.isfinite(expected)
        unit = np.spacing(np.maximum(np.abs(rounded), np.finfo(dtype).tiny)).astype(np.longdouble)
        error = np.abs(actual.astype(np.longdouble) - expected) / unit
        wrong_zero = (rounded == 0) & (actual == 0)
        return np.where(same, 0.0, np.where(finite & ~wrong_zero, error, np.inf)).astype(np.float64)


def _shown(value: Array) -> Any:
    """A small array as nested lists, a larger one as a word about it."""
    if value.size <= 64:
        return value.tolist()
    return f"{value.dtype} of shape {value.shape}"


def as_text(details: Mapping[str, Any]) -> list[str]:
    """Details of a failure, a line each."""
    lines = []
    if "formula" in details:
        lines.append(f"formula: {details['formula']}")
    lines += [f"{name} = {value}" for name, value in details.get("inputs", {}).items()]
    return lines
