"""Layers over sequences: what they have in common, and the simplest, an exponentially weighted moving average."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_list, check_lengths, shown
from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.composition import composition
from wyrm.frontend.inputs import InputNode
from wyrm.frontend.node import Node
from wyrm.frontend.ops.shapes import stack
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.values import as_dtype, as_reals, real_dtype
from wyrm.frontend.zeros import zero_input
from wyrm.nn.init import Rng, uniform
from wyrm.nn.module import Module
from wyrm.program import Shape

__all__ = ["EWMA", "Recurrent", "unrolled"]

Array = npt.NDArray[Any]
#: A state, of nodes or arrays.
State = Sequence[Node | npt.ArrayLike] | Node | Array
#: The outputs of a sequence: a list of nodes, or of a node of rows a node of rows.
Outputs = list[Node] | Node
_Nodes = tuple[Node, ...]


class Recurrent(Module):
    """The base of layers over sequences. A sequence is a list of nodes of shape (B, input_dim): B sequences side by side.

    One sequence alone may be a node of shape (T, input_dim), with a row for each position; so are its outputs then.

    A state is a tuple of matrices of shape (B, dim), the first of which is the layer's output. It begins with zeros, or with
    what :meth:`set_state` or :meth:`keep_state` set, in graphs that exist already as in later ones; or with what
    :meth:`forward` is given.

    A bidirectional layer is two: one goes over the sequence, the other, :attr:`reverse`, over the reversed sequence. The
    outputs of both stand side by side, (B, 2 * hidden_dim); the state is that of the one, then that of the other.
    """

    #: Of how many matrices a state is made; twice as many in a bidirectional layer.
    state_size = 1
    #: The layer that goes over the reversed sequence.
    reverse: Recurrent | None = None
    #: The columns of inputs, if the layer says so.
    input_dim: int | None = None

    def __init__(self, hidden_dim: int, dtype: npt.DTypeLike | None = None) -> None:
        check_lengths(type(self).__name__, hidden_dim=hidden_dim)
        self.hidden_dim = hidden_dim
        self._dtype = real_dtype(dtype, type(self).__name__)
        self._state: tuple[Array, ...] | None = None
        self._initial: list[tuple[weakref.ref[InputNode], ...]] = []
        self._last: tuple[Node, ...] | None = None

    def step(self, state: tuple[Node, ...], x: Node) -> tuple[Node, ...]:
        """The next state, from a state and an input."""
        raise NotImplementedError("a recurrent layer defines step")

    @overload
    def forward(self, inputs: Node, state: State | None = None, *, return_state: Literal[False] = False) -> Node: ...

    @overload
    def forward(self, inputs: Node, state: State | None = None, *, return_state: Literal[True]) -> tuple[Node, _Nodes]: ...

    @overload
    def forward(
        self, inputs: Sequence[Node], state: State | None = None, *, return_state: Literal[False] = False
    ) -> list[Node]: ...

    @overload
    def forward(
        self, inputs: Sequence[Node], state: State | None = None, *, return_state: Literal[True]
    ) -> tuple[list[Node], _Nodes]: ...

    def forward(
        self, inputs: Sequence[Node] | Node, state: State | None = None, *, return_state: bool = False
    ) -> Outputs | tuple[Outputs, _Nodes]:
        """The output after each input, (B, hidden_dim); on request, the state after the last one, too.

        Parameters
        ----------
        inputs
            Nodes of shape (B, input_dim), or one node whose T rows are the inputs of one sequence: such as the rows of an
            embedding that an :class:`IndexInputNode` of T indices looks up, which costs less than as many inputs. The outputs
            are one node then, of shape (T, hidden_dim).
        state
            What the sequence begins with: ``state_size`` nodes or arrays of shape (B, hidden_dim), or a single one if that is
            what a state is made of. Gradients flow into nodes; one of shape (1, hidden_dim), such as a parameter, is for all
            B sequences. Without, it begins with the layer's initial state.
        return_state
            Whether to return a pair: the outputs, and the last state, which another call may begin with.

        Raises
        ------
        OptionError
            For a sequence without inputs.
        ShapeError
            If inputs differ in their rows, have another number of columns than the layer's, or a state is not of their rows.
        DTypeError
            If an input is no node.

        Examples
        --------
        >>> import wyrm
        >>> layer, xs = wyrm.nn.LSTM(3, 4, rng=1), [wyrm.InputNode((2, 3)) for _ in range(4)]
        >>> outputs, state = layer(xs[:2], return_state=True)
        >>> outputs += layer(xs[2:], state)
        >>> layer(wyrm.InputNode((5, 3))).shape
        (5, 4)
        """
        name = type(self).__name__
        if isinstance(inputs, Node):
            if not inputs.shape[0]:
                raise OptionError(f"{name}: expected at least one input, got {inputs!r}, which has no rows")
            count = 1
            width = inputs.shape[1]
        else:
            if not isinstance(inputs, list):
                inputs = _listed(name, inputs)
            try:
                shapes = {x._structure.shape for x in inputs}
            except AttributeError:  # arrays stand for constants
                shapes = {_shape(name, x) for x in inputs}
            if not shapes:
                raise OptionError(f"{name}: expected at least one input")
            count, width = shapes.pop()
            if shapes:
                rows, widths = ({shape[axis] for shape in shapes} | {(count, width)[axis]} for axis in (0, 1))
                if len(rows) > 1:
                    raise ShapeError(f"{name}: expected inputs of equally many rows, got {sorted(rows)}")
                width = next(iter(widths - {self.input_dim}), width)
        if width != self.input_dim is not None:
            raise ShapeError(f"{name}: expected inputs of {self.input_dim} columns, got {width}")
        begin = self._begin(count) if state is None else self._given(state, count)
        outputs, self._last = self._over(begin, inputs)
        return (outputs, self._last) if return_state else outputs

    def _over(self, state: _Nodes, inputs: Sequence[Node] | Node) -> tuple[Outputs, _Nodes]:
        """The outputs, and the last state, of one direction or both."""
        if self.reverse is None:
            return self._unrolled(state, inputs)
        half = len(state) // 2
        ahead, last = self._unrolled(state[:half], inputs)
        back, first = self.reverse._unrolled(state[half:], _positions(inputs)[::-1])
        assert isinstance(back, list)
        back.reverse()
        if isinstance(ahead, Node):
            return stack([ahead, stack(back)], axis=1), (*last, *first)
        return [stack(pair, axis=1) for pair in zip(ahead, back, strict=True)], (*last, *first)

    def _given(self, state: State, rows: int) -> tuple[Node, ...]:
        """A state that :meth:`forward` was given, as nodes."""
        name = type(self).__name__
        alone = isinstance(state, (Node, np.ndarray))
        given = [state] if alone else as_list(state, name, "a tuple of matrices as state")
        values = [value if isinstance(value, Node) else as_reals(value, f"{name}: state") for value in given]
        shape = rows, self.hidden_dim
        shapes = [value.shape for value in values]
        fits = [s == shape or (isinstance(v, Node) and s == (1, shape[1])) for v, s in zip(values, shapes, strict=True)]
        if len(values) != self.state_size or not all(fits):
            raise ShapeError(f"{name}: expected {self.state_size} matrices of shape {shape} as state, got {shapes}")
        return tuple(
            (value if value.shape == shape else value + zero_input(shape, self._dtype, "state"))
            if isinstance(value, Node)
            else InputNode(shape, value, name="state", dtype=self._dtype, constant=True)
            for value in values
        )

    def _make_bidirectional(self, reverse: Recurrent) -> None:
        self.reverse, self.state_size = reverse, 2 * self.state_size

    def _unrolled(self, state: _Nodes, inputs: Sequence[Node] | Node) -> tuple[Outputs, _Nodes]:
        """The outputs, and the last state."""
        outputs = []
        for x in _positions(inputs):
            state = self.step(state, x)
            outputs.append(state[0])
        return stack(outputs) if isinstance(inputs, Node) else outputs, state

    def _begin(self, rows: int) -> tuple[Node, ...]:
        shape = rows, self.hidden_dim
        values = self._state
        if values is None:
            nodes = tuple([zero_input(shape, self._dtype, "state") for _ in range(self.state_size)])
        elif values[0].shape[0] != rows:
            raise ShapeError(
                f"{type(self).__name__}: the state that was set has {values[0].shape[0]} rows, the inputs have {rows}; "
                f"call reset_state first"
            )
        else:
            nodes = tuple([InputNode(shape, value, name="state", dtype=self._dtype, constant=True) for value in values])
        alive = [references for references in self._initial if references[0]() is not None] if self._initial else ()
        self._initial = [*alive, tuple(map(weakref.ref, nodes))]
        return nodes

    @property
    def state(self) -> tuple[Array, ...] | None:
        """What sequences begin with; ``None``: zeros."""
        return self._state

    def set_state(self, *state: npt.ArrayLike) -> None:
        """Let sequences begin with a state: ``state_size`` matrices of shape (B, hidden_dim).

        Raises
        ------
        ShapeError
            Where there are more or fewer, or their shapes are others.
        """
        label = f"{type(self).__name__}: state"
        values = tuple(np.array(as_dtype(as_reals(value, label), self._dtype, label)) for value in state)
        shapes = {value.shape for value in values}
        if len(values) != self.state_size or len(shapes) != 1 or values[0].shape[1:] != (self.hidden_dim,):
            raise ShapeError(
                f"{type(self).__name__}: expected {self.state_size} matrices of shape (B, {self.hidden_dim}) as state, "
                f"got {sorted(shapes)}"
            )
        self._set(values)

    def reset_state(self) -> None:
        """Let sequences begin with zeros, every element."""
        self._set(None)

    def keep_state(self) -> None:
        """Let the next sequences begin where the last one, of the graph built last, has ended.

        Raises
        ------
        OptionError
            Where there was none.
        """
        if self._last is None:
            raise OptionError(f"{type(self).__name__}: there is no sequence yet; call forward first")
        self._set(tuple(node.value for node in self._last))

    def _set(self, values: tuple[Array, ...] | None) -> None:
        self._state = values
        for references in self._initial:
            for n, reference in enumerate(references):
                node = reference()
                if node is not None and (values is None or values[n].shape == node.shape):
                    node.set_value(np.zeros(node.shape) if values is None else values[n])

    def _cloned(self, twins: dict[int, Any]) -> Any:
        twin = super()._cloned(twins)
        twin._initial, twin._last = [], None
        return twin


def _listed(owner: str, inputs: Any) -> list[Any]:
    try:
        return list(inputs)
    except TypeError:
        raise DTypeError(f"{owner}: expected a list of nodes, got {shown(inputs)}") from None


def _shape(owner: str, value: Any) -> Shape:
    """The shape of an input, a node or a matrix."""
    shape = value.shape if isinstance(value, Node) else as_reals(value, f"{owner}: input").shape
    if len(shape) != 2:
        raise ShapeError(f"{owner}: expected inputs to be nodes or matrices, got shape {shape}")
    return int(shape[0]), int(shape[1])


def as_nodes(owner: str, values: Any, count: int | None = None) -> list[Node]:
    """The nodes of a sequence, or those that a state of so many is made of.

    Raises
    ------
    DTypeError
        If they are no nodes, or there are more or fewer.
    """
    try:
        nodes = list(values)
    except TypeError:
        nodes = [None]
    wrong = [value for value in nodes if not isinstance(value, Node)]
    if wrong or (count is not None and len(nodes) != count):
        expected = "a list of nodes" if count is None else f"{count} nodes as state"
        raise DTypeError(f"{owner}: expected {expected}, got {shown(values)}")
    return nodes


def _positions(inputs: Sequence[Node] | Node) -> Sequence[Node]:
    """The inputs one by one: of a node, its rows."""
    return [inputs[n : n + 1] for n in range(inputs.shape[0])] if isinstance(inputs, Node) else inputs


def unrolled(step: Callable[..., _Nodes], states: int, parameters: int) -> Callable[..., tuple[Outputs, _Nodes]]:
    """All steps over a sequence as one composition.

    Parameters
    ----------
    step
        The next state, from a state, an input and parameters: ``step(state, x, *parameters)``.
    states, parameters
        Of how many nodes the state is made, and how many parameters there are.

    Returns
    -------
    function
        The outputs and the last state: ``function(state, inputs, *parameters)``; the inputs are nodes, or the rows of one, and
        so are the outputs.
    """

    def run(state: tuple[Node, ...], inputs: Sequence[Node], shared: Sequence[Node]) -> list[Node]:
        outputs = []
        for x in inputs:
            state = step(state, x, *shared)
            outputs.append(state[0])
        return [*outputs, *state[1:]]

    @composition
    def steps(*operands: Node) -> list[Node]:
        last = len(operands) - parameters
        return run(operands[:states], operands[states:last], operands[last:])

    @composition
    def steps_over_rows(*operands: Node) -> list[Node]:
        count = operands[states].shape[0]
        results = run(operands[:states], _positions(operands[states]), operands[states + 1 :])
        return [*results[count - 1 :], stack(results[:count])]

    def over(state: _Nodes, inputs: Sequence[Node] | Node, *shared: Node) -> tuple[Outputs, _Nodes]:
        if type(state) is not tuple or len(state) != states:
            state = tuple(as_nodes("a step", state, states))
        if isinstance(inputs, Node):
            *last, outputs = steps_over_rows(*state, inputs, *shared)
            return outputs, tuple(last)
        results, count = steps(*state, *inputs, *shared), len(inputs)
        return results[:count], tuple(results[count - 1 :])

    return over


class EWMA(Recurrent):
    """An exponentially weighted moving average, with a weight for each column that is learned.

    ``output = decay * output + (1 - decay) * input`` with ``decay = sigmoid(alpha)``.

    Parameters
    ----------
    dim
        The columns of input and output.
    rng, dtype
        Seed or generator of alpha, and its dtype.

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.EWMA(4, rng=1)
    >>> [output.shape for output in layer.forward([wyrm.InputNode((2, 4)), wyrm.InputNode((2, 4))])]
    [(2, 4), (2, 4)]
    """

    def __init__(self, dim: int, *, rng: Rng = None, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dim, dtype)
        self.input_dim = dim
        self.alpha = ParameterNode(uniform(1, dim, rng=rng), name="alpha", dtype=dtype)

    def step(self, state: tuple[Node, ...], x: Node) -> tuple[Node, ...]:
        """The average with one more input."""
        return _averages(state, [x], self.alpha)[1]

    def _unrolled(self, state: _Nodes, inputs: Sequence[Node] | Node) -> tuple[Outputs, _Nodes]:
        if type(self).step is not EWMA.step:
            return super()._unrolled(state, inputs)
        return _averages(state, inputs, self.alpha)


def _average(state: tuple[Node, ...], x: Node, alpha: Node) -> tuple[Node, ...]:
    (before,) = state
    return (x + alpha.sigmoid() * (before - x),)


_averages = unrolled(_average, states=1, parameters=1)
