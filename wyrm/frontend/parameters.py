"""Parameters: the nodes that are trained."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.errors import DTypeError, MissingValueError, OptionError
from wyrm.frontend.binding import Binding, retire_all
from wyrm.frontend.gradients import Gradient, RowSparseGradient, as_gradient, read_gradient, write_gradient
from wyrm.frontend.mode import traced_by
from wyrm.frontend.node import Node
from wyrm.frontend.storage import HogwildParameter
from wyrm.frontend.structure import forget, parameter_structure
from wyrm.gradient_use import using
from wyrm.memory import GradientBuffer

if TYPE_CHECKING:
    from wyrm.backend import Backend

__all__ = ["ParameterNode"]

Array = npt.NDArray[Any]


class Trainer(Protocol):
    """What trains parameters, and is told when it has to do so in another way from now on."""

    def expire(self) -> None:
        """Make what steps are made of anew before the next."""


class ParameterNode(Node):
    """A matrix that is trained.

    The node gathers its gradient from every use in every graph until an optimizer's step, or :meth:`zero_gradient`,
    sets it back to zero.

    Parameters
    ----------
    value
        A matrix, (rows, columns), or a number for (1, 1).
    name
        For messages and pictures.
    dtype
        ``float32`` unless given as ``float64``. A graph has one dtype.
    trainable
        Whether it is trained; it may be set at any time. See :attr:`trainable`.
    frozen_rows, max_norm
        Rows that no step changes, and the greatest norm of a row; without, there are none. See :attr:`frozen_rows` and
        :attr:`max_norm`.
    copy
        As for :class:`HogwildParameter`.

    Notes
    -----
    ``copy.deepcopy`` and ``pickle`` take value, name, dtype, trainability and what optimizers keep along; parameters that
    share storage share the copy if they are copied together. ``copy.copy`` is another node over the same storage, as
    :meth:`shared`. A gradient that waits for a step is never copied.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> weights = wyrm.ParameterNode(np.ones((2, 2)), name="weights")
    >>> loss = weights.square().scalar_sum()
    >>> loss.forward()
    >>> loss.backward(1.0)
    >>> weights.gradient.to_dense()
    array([[2., 2.],
           [2., 2.]], dtype=float32)
    """

    __slots__ = ("_backend", "_bindings", "_gradient", "_storage", "_trainable", "_trainers")

    def __init__(
        self,
        value: npt.ArrayLike | HogwildParameter,
        *,
        name: str | None = None,
        dtype: npt.DTypeLike | None = None,
        trainable: bool = True,
        frozen_rows: npt.ArrayLike | None = None,
        max_norm: float | None = None,
        copy: bool = True,
    ) -> None:
        self._storage = value if isinstance(value, HogwildParameter) else HogwildParameter(value, dtype=dtype, copy=copy)
        self._graph = None
        self._parents = ()
        self.name = name
        self._trainable = _truth(trainable, lambda: f"ParameterNode {shown(name)}")
        self._gradient: GradientBuffer | None = None
        self._bindings: list[weakref.ref[Binding]] = []
        self._trainers: list[weakref.ref[Trainer]] = []
        self._backend: Backend | None = None
        self._structure = parameter_structure(self, self._storage.shape, self._storage.dtype)
        self._storage.enter(self)
        if frozen_rows is not None:
            self.frozen_rows = frozen_rows
        if max_norm is not None:
            self.max_norm = max_norm

    @classmethod
    def shared(cls, storage: HogwildParameter, *, name: str | None = None, trainable: bool = True) -> ParameterNode:
        """A node over storage that other nodes use too; its gradient is its own."""
        if not isinstance(storage, HogwildParameter):
            raise DTypeError(f"ParameterNode.shared: expected a HogwildParameter, got {type(storage).__name__}")
        return cls(storage, name=name, trainable=trainable)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), name=self.name, trainable=self.trainable), (self._storage,)

    def __del__(self) -> None:
        retire_all(getattr(self, "_bindings", []))
        if hasattr(self, "_structure"):
            forget(self._structure)

    def _bound_by(self, binding: Binding) -> None:
        self._bindings = [b for b in self._bindings if b() is not None] + [weakref.ref(binding)]

    def _expire_bindings(self, backward: bool = False) -> None:
        """Have the programs of graphs with this parameter made anew when they are run again, forward or either way."""
        for reference in self._bindings:
            binding = reference()
            if binding is not None:
                binding.expire(backward)

    def _trained_by(self, trainer: Trainer) -> None:
        """Have a trainer told when what is trained of this parameter changes."""
        self._trainers = [t for t in self._trainers if t() not in (None, trainer)] + [weakref.ref(trainer)]

    def _expire(self) -> None:
        """Have everything made anew that depends on what of this parameter is trained."""
        self._expire_bindings(backward=True)
        for reference in self._trainers:
            trainer = reference()
            if trainer is not None:
                trainer.expire()

    def _gradient_buffer(self) -> GradientBuffer:
        if self._gradient is None:
            new = GradientBuffer(self._storage.shape, self._storage.dtype)
            if self._gradient is None:  # no other thread has made one meanwhile
                self._gradient = new
        return self._gradient

    @property
    def storage(self) -> HogwildParameter:
        """The value and optimizer state, to be shared with other nodes."""
        return self._storage

    @property
    def trainable(self) -> bool:
        """Whether the parameter is trained. It may be set at any time; what is set holds for the next step of any kind.

        While it is ``False``, the parameter is *frozen*: it has no gradient and does not count when gradients are clipped by
        norm, and no step changes it, neither by decay nor by momentum. What optimizers keep for it (a velocity, a sum of
        squares) stays as it is. Set back to ``True``, training goes on from there: steps made meanwhile are not made up for.

        Setting it drops the gradient gathered so far. In
        :func:`wyrm.fit`, it holds from the next epoch on, or from the next chunk of a stream. If it is set between ``forward``
        and ``backward``, the latter runs another forward pass first. Each node over shared storage has its own.

        Raises
        ------
        DTypeError
            Where it is set to anything but ``True`` or ``False``.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        value = _truth(value, self._label)
        if value != self._trainable:
            self._trainable = value
            self.zero_gradient()
            self._expire()

    @property
    def frozen_rows(self) -> npt.NDArray[np.int64]:
        """The rows that are not trained: their numbers, sorted. They may be set at any time, for all nodes over the storage.

        Set row numbers, or an array of truth values, one for each row; ``None``: no row is frozen. A frozen row has no
        gradient, does not count when gradients are clipped by norm, and no step changes it or what optimizers keep for it,
        whatever the rule: it stays as it is until ``set_value`` or a load writes it. Rows that thaw go on from there. The
        numbers travel with copies and pickles; they are no part of a checkpoint, as code gives them.

        Raises
        ------
        DTypeError, ShapeError, OutOfRangeError
            If they are set to anything else, or to rows that there are not.

        Examples
        --------
        >>> import numpy as np, wyrm
        >>> table = wyrm.ParameterNode(np.ones((4, 2)), frozen_rows=[0])  # row 0 stands for padding, for instance
        >>> pretrained = np.array([True, True, False, False])
        >>> table.frozen_rows = pretrained
        >>> table.frozen_rows
        array([0, 1])
        """
        return self._storage.frozen_rows

    @frozen_rows.setter
    def frozen_rows(self, rows: npt.ArrayLike | None) -> None:
        self._storage.set_frozen_rows(rows, self._label())

    @property
    def max_norm(self) -> float | None:
        """The greatest 2-norm of a row, or ``None``. It may be set at any time, for all nodes over the storage.

        A row that an update leaves longer is scaled back to this norm, as in projected gradient descent: of a row-sparse
        gradient only rows that the step touches, so it costs nothing for the others. Rows that are longer when it is set are
        scaled at once; what ``set_value`` or a load writes, and where momentum takes a row during steps that miss it, is scaled
        at the row's next update. Frozen rows stay as they are.

        PyTorch's embeddings scale rows when they are looked up, before the step: there, a row may be longer after a step until
        it is looked up again. Here no update leaves it longer.

        Raises
        ------
        DTypeError, OptionError
            If it is set to anything but ``None`` and a finite number above 0.

        Examples
        --------
        >>> import numpy as np, wyrm
        >>> table = wyrm.ParameterNode([[3.0, 4.0], [0.0, 0.5]], max_norm=1.0)
        >>> table.value
        array([[0.6, 0.8],
               [0. , 0.5]], dtype=float32)
        """
        return self._storage.max_norm

    @max_norm.setter
    def max_norm(self, norm: float | None) -> None:
        self._storage.set_max_norm(norm, self._label())

    @property
    def value(self) -> Array:
        """The value, which can be read but not written; :meth:`set_value` writes.

        It is a view of what is trained; or, if rows are behind that steps of momentum or ``weight_decay`` did not touch, a copy
        in which they are up to date. Reading it never changes what training gives later.

        Raises
        ------
        MissingValueError
            Where a function is traced that reads it: it changes as training goes on.
        """
        who = traced_by()
        if who:
            raise MissingValueError(
                f"{self._label()}: its value cannot be read now: {who}, which is called once for each structure of the data, "
                f"and the value changes as training goes on. Use the node itself; its size is in .shape"
            )
        view: Array = self._storage.value.view()
        view.flags.writeable = False
        return view

    def set_value(self, value: npt.ArrayLike) -> None:
        """Overwrite the value, in place, for all nodes that share the storage.

        Raises
        ------
        ShapeError
            Where the shape is another.
        DTypeError
            Where the value does not hold real numbers.
        """
        self._storage.set_value(value, self._label())

    @property
    def gradient(self) -> Gradient:
        """What has been gathered since the last step: a copy, without frozen rows; no rows at all if it is not trainable."""
        if self._gradient is None:
            empty = np.zeros((0, self.shape[1]), self.dtype)
            return RowSparseGradient(np.zeros(0, np.int64), empty, self.shape)
        with using(self._gradient, self._label()):
            return read_gradient(self._gradient, self._storage.frozen_rows)

    def set_gradient(self, gradient: Gradient | npt.ArrayLike | Any) -> None:
        """Replace what has been gathered: an optimizer's next step takes this.

        Parameters
        ----------
        gradient
            A gradient, a matrix of the parameter's shape or a ``scipy.sparse`` one. Copied.

        Raises
        ------
        ShapeError, DTypeError
            Where it has another shape or holds no real numbers.
        OptionError
            Where the parameter is not trainable, so that no step would take it.
        """
        if not self._trainable:
            raise OptionError(f"{self._label()}: is not trainable, so it has no gradient; set its trainable to True first")
        taken = as_gradient(gradient, self.shape, self._label())
        with using(self._gradient_buffer(), self._label()):
            write_gradient(self._gradient_buffer(), taken)

    def zero_gradient(self) -> None:
        """Set the gradient back to zero."""
        if self._gradient is not None:
            with using(self._gradient, self._label()):
                self._gradient.clear()

    def forward(self, backend: str | Backend | None = None) -> None:
        """Nothing: a parameter has its value."""

    def backward(self, weight: float = 1.0) -> None:
        """Add ``weight`` to each element of the gradient: the gradient of the sum of the elements."""
        try:
            weight = math.copysign(weight, weight)
        except (OverflowError, TypeError):
            raise self._no_weight(weight) from None
        if self._trainable:
            buffer = self._gradient_buffer()
            with using(buffer, self._label()):
                buffer.require_dense()[...] += weight
                buffer.header[0] = 1
                buffer.doubt()

    def _kind(self) -> str:
        return "ParameterNode"


def _truth(value: object, label: Callable[[], str]) -> bool:
    """Whether a parameter is to be trainable, checked."""
    if not isinstance(value, (bool, np.bool_)):
        raise DTypeError(f"{label()}: expected trainable to be True or False, got {value!r}")
    return bool(value)
