"""Options that users pass, checked: numbers, whole numbers, nodes. A label says whose they are: ``owner: name``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm.errors import DTypeError, OptionError, ShapeError

__all__ = ["as_float", "as_list", "called", "check_lengths", "check_number", "check_whole", "shown"]


def check_number(value: Any, label: str, least: float = -math.inf, above: float | None = None) -> float:
    """A finite number of at least ``least``, or above ``above``, as float64 has it: ``2**53 + 1`` is ``2**53``.

    Raises
    ------
    DTypeError, OptionError
        If it is none, or outside.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise DTypeError(f"{label}: expected a number, got {shown(value)}")
    number = as_float(value)
    wanted = f"above {above:g}" if above is not None else f"of at least {least:g}" if least > -math.inf else "that is finite"
    if not math.isfinite(number) or number < least or (above is not None and number <= above):
        raise OptionError(f"{label}: expected a finite number {wanted}, got {shown(value)}")
    return number


def as_float(value: Any) -> float:
    """A number of any type; infinity if it is a whole number beyond what floating-point numbers hold."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.inf


def check_whole(value: Any, label: str, least: int) -> int:
    """A whole number of at least ``least``.

    Raises
    ------
    DTypeError, OptionError
        If it is none, or below.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise DTypeError(f"{label}: expected a whole number, got {shown(value)}")
    if value < least:
        raise OptionError(f"{label}: expected at least {least}, got {value}")
    return int(value)


def check_lengths(owner: str, **lengths: Any) -> None:
    """Require rows and columns of matrices, which ``owner`` is to have.

    Raises
    ------
    ShapeError
        If one is no whole number of at least 0, or they are too many for any memory.
    """
    for name, length in lengths.items():
        if not isinstance(length, (int, np.integer)) or isinstance(length, bool) or length < 0:
            raise ShapeError(f"{owner}: expected {name} to be a whole number of at least 0, got {shown(length)}")
    if math.prod(int(length) for length in lengths.values()) >= 2**58:
        raise ShapeError(f"{owner}: {' times '.join(lengths)} is more than there is memory for")


def as_list(given: Any, label: str, expected: str) -> list[Any]:
    """The elements of something that can be gone through, of whatever type.

    Raises
    ------
    DTypeError
        If it cannot be, as an array without axes.
    """
    try:
        elements = iter(given)
    except TypeError:
        raise DTypeError(f"{label}: expected {expected}, got {shown(given)}") from None
    return list(elements)


def called(function: Callable[..., Any], argument: Any, label: str, expected: str) -> Any:
    """What a user's function returns; what it raises passes through.

    Raises
    ------
    DTypeError
        If it cannot be called with the argument.
    """
    try:
        return function(argument)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # it did not get into the function
            raise DTypeError(f"{label}: expected {expected}, got {shown(function)}: {error}") from None
        raise


def shown(value: Any) -> str:
    """What was passed, for a message; not too much of it."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."
