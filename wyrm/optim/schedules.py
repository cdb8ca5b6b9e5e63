"""Learning rates that follow the number of steps.

A schedule is a function from step numbers, an array that counts from 0, to learning rates, an array of the same shape. It is
called for many steps at once, so that it costs nothing in a step. Any function of this kind can be given to an optimizer as
its ``learning_rate``; these are the usual ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_number, shown
from wyrm.errors import DTypeError

__all__ = ["Schedule", "constant", "cosine", "inverse_square_root", "step", "warmup"]

Array = npt.NDArray[Any]
#: ``schedule(steps)`` gives the learning rate of each step.
Schedule = Callable[[Array], Array]


def constant(rate: float) -> Schedule:
    """``rate``, always; to begin with :func:`warmup`.

    Examples
    --------
    >>> constant(0.1)(np.arange(3))
    array([0.1, 0.1, 0.1])
    """
    rate = check_number(rate, "constant: rate", 0)
    return lambda steps: np.full(np.shape(steps), rate)


def step(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """``rate``, multiplied by ``factor`` after each ``every`` steps.

    Examples
    --------
    >>> step(1.0, every=2, factor=0.5)(np.arange(5))
    array([1.  , 1.  , 0.5 , 0.5 , 0.25])
    """
    check_number(every, "step: every", 1)
    rate, factor = check_number(rate, "step: rate", 0), check_number(factor, "step: factor", 0)
    return lambda steps: rate * factor ** (np.asarray(steps) // every).astype(float)


def cosine(rate: float, steps: int, final: float = 0.0) -> Schedule:
    """From ``rate`` to ``final`` along half a cosine in so many steps, then ``final``.

    Loshchilov and Hutter, ICLR 2017, equation 5.

    Examples
    --------
    >>> cosine(1.0, steps=2)(np.arange(4))
    array([1. , 0.5, 0. , 0. ])
    """
    check_number(steps, "cosine: steps", 1)
    rate, final = check_number(rate, "cosine: rate", 0), check_number(final, "cosine: final", 0)

    def schedule(numbers: Array) -> Array:
        part: Array = np.minimum(np.asarray(numbers) / steps, 1.0)
        return final + (rate - final) * 0.5 * (1 + np.cos(np.pi * part))

    return schedule


def inverse_square_root(rate: float, steps: int = 1) -> Schedule:
    """``rate`` for so many steps, then falling with the square root of the number of steps.

    Examples
    --------
    >>> inverse_square_root(1.0)(np.array([0, 3, 15]))
    array([1.  , 0.5 , 0.25])
    """
    check_number(steps, "inverse_square_root: steps", 1)
    rate = check_number(rate, "inverse_square_root: rate", 0)
    return lambda numbers: rate * np.sqrt(steps / np.maximum(np.asarray(numbers) + 1, steps))


def warmup(schedule: Schedule, steps: int) -> Schedule:
    """Another schedule, to which the rate grows evenly during the first steps.

    Examples
    --------
    >>> warmup(constant(1.0), steps=4)(np.arange(6))
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  ])
    """
    check_number(steps, "warmup: steps", 1)
    if not callable(schedule):
        raise DTypeError(f"warmup: expected a schedule, such as constant(0.1), got {shown(schedule)}")
    return lambda numbers: schedule(numbers) * np.minimum((np.asarray(numbers) + 1) / steps, 1.0)
