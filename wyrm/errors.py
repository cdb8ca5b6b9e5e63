"""Every exception that Wyrm raises on purpose, each also of the built-in kind that fits it.

A message names the node, feed, backend or option concerned, what was expected, what came instead and,
where there is one, the next step. ``except wyrm.WyrmError`` catches them all.
"""

from __future__ import annotations


class WyrmError(Exception):
    """The base of all errors that Wyrm raises on purpose."""


class ShapeError(WyrmError, ValueError):
    """Shapes that do not fit an op, an input or a feed."""


class DTypeError(WyrmError, TypeError):
    """Something of the wrong kind: values that are no real numbers, fractional indices, dtypes that do not meet."""


class OutOfRangeError(WyrmError, IndexError):
    """An index that points outside the table it is used with."""


class LabelError(WyrmError, ValueError):
    """A target outside the labels that a loss takes, such as 2 for binary cross-entropy."""


class MissingValueError(WyrmError, RuntimeError):
    """An input that has been given no value yet."""


class StaleError(WyrmError, RuntimeError):
    """A gradient asked for after an input was set, and no forward pass run since."""


class ThreadError(WyrmError, RuntimeError):
    """A graph, a gradient, or an optimizer in training, that two threads use at once; or threads that there is no room for."""


class FeedError(WyrmError, ValueError):
    """A feed that lacks an input, holds one too many, or whose arrays do not fit."""


class OptionError(WyrmError, ValueError):
    """An option outside its range, such as a negative learning rate."""


class BackendError(WyrmError, RuntimeError):
    """A backend that cannot be loaded or broke its contract."""


class UnknownBackendError(BackendError, LookupError):
    """A backend name that no installed plugin declares."""


class CapabilityError(BackendError):
    """Something asked of a backend that it does not declare."""


class ProgramError(BackendError, ValueError):
    """A program that would read or write outside of its buffers, or that says what the kernel table does not know."""


class NotFiniteError(WyrmError, ArithmeticError):
    """A loss or a gradient that became NaN or infinite during training.

    Attributes
    ----------
    epoch, example
        In which epoch, counted from 1, and of which example of the feed; ``None`` where it is not known.
    node
        The node, input or parameter where it began, as messages call it; ``None`` where that could not be found.
    """

    def __init__(self, message: str, *, epoch: int | None = None, example: int | None = None, node: str | None = None) -> None:
        super().__init__(message)
        self.epoch, self.example, self.node = epoch, example, node


class CheckpointError(WyrmError, ValueError):
    """A file that is no whole checkpoint, or that of another model, optimizer or run."""
