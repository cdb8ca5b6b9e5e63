"""Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gates of Gers, Schmidhuber and Cummins 2000).

:class:`LSTM` is the layer. With :class:`Parameters`, several layers of cells may be built over the same parameters:

parameters = lstm.Parameters(input_dim, hidden_dim, rng=42)
layer = parameters.build()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_lengths
from wyrm.frontend.node import Node
from wyrm.frontend.ops.shapes import stack
from wyrm.frontend.parameters import ParameterNode
from wyrm.nn.init import Rng, generator, xavier_normal
from wyrm.nn.module import Module
from wyrm.nn.recurrent import Outputs, Recurrent, as_nodes, unrolled

__all__ = ["LSTM", "Cell", "Layer", "Parameters"]


class Parameters(Module):
    """The parameters of LSTM cells, of which layers are built.

    Attributes
    ----------
    weights
        (hidden_dim + input_dim, 4 * hidden_dim): first the rows for the hidden state, then those for the input; in the
        columns the gates forget, input, output and then the candidate. They begin with :func:`wyrm.nn.xavier_normal`, as for
        one gate.
    biases
        (1, 4 * hidden_dim), likewise. They begin with 0; those of the forget gate with 1 (Jozefowicz, Zaremba and Sutskever,
        ICML 2015).

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.lstm.Parameters(16, 32, rng=1).build()
    >>> [output.shape for output in layer.forward([wyrm.InputNode((3, 16)), wyrm.InputNode((3, 16))])]
    [(3, 32), (3, 32)]
    """

    def __init__(self, input_dim: int, hidden_dim: int, *, rng: Rng = None, dtype: npt.DTypeLike | None = None) -> None:
        check_lengths("LSTM", input_dim=input_dim, hidden_dim=hidden_dim)
        self.input_dim, self.hidden_dim = input_dim, hidden_dim
        rows = hidden_dim + input_dim
        scale = ((rows + 4 * hidden_dim) / (rows + hidden_dim)) ** 0.5
        biases = np.zeros((1, 4 * hidden_dim))
        biases[:, :hidden_dim] = 1
        self.weights = ParameterNode(xavier_normal(rows, 4 * hidden_dim, rng) * scale, name="weights", dtype=dtype)
        self.biases = ParameterNode(biases, name="biases", dtype=dtype)

    def build(self) -> Layer:
        """A layer of cells with these parameters; several may share them."""
        return Layer(Cell(self))

    def build_coupled(self) -> Layer:
        """A layer whose input gate is 1 less the forget gate (Greff et al. 2017); its own weights are left alone."""
        return Layer(Cell(self, coupled=True))


class Cell(Module):
    """One step of an LSTM.

    Parameters
    ----------
    parameters
        Its weights and biases.
    coupled
        Whether the input gate is 1 less the forget gate.
    """

    def __init__(self, parameters: Parameters, *, coupled: bool = False) -> None:
        self.shared = parameters
        self.coupled = coupled

    def forward(self, state: tuple[Node, Node], x: Node) -> tuple[Node, Node]:
        """The next (hidden, cell), each (B, hidden_dim), from these and an input (B, input_dim)."""
        last: tuple[Node, Node] = self.unrolled(state, [x])[1]
        return last

    def unrolled(self, state: tuple[Node, ...], inputs: Sequence[Node] | Node) -> Any:
        """The outputs, and the last (hidden, cell), of a sequence."""
        steps = _coupled_steps if self.coupled else _steps
        return steps(state, inputs, self.shared.weights, self.shared.biases)


def _step(state: tuple[Node, ...], x: Node, weights: Node, biases: Node) -> tuple[Node, ...]:
    hidden, cell = state
    width = cell.shape[1]
    both = (stack([hidden, x], axis=1).dot(weights) + biases).lstm_cell(cell)
    return both[:, :width], both[:, width:]


def _coupled_step(state: tuple[Node, ...], x: Node, weights: Node, biases: Node) -> tuple[Node, ...]:
    hidden, cell = state
    width = cell.shape[1]
    gates = stack([hidden, x], axis=1).dot(weights) + biases
    forget, output = gates[:, :width].sigmoid(), gates[:, 2 * width : 3 * width].sigmoid()
    candidate = gates[:, 3 * width :].tanh()
    cell = candidate + forget * (cell - candidate)
    return output * cell.tanh(), cell


_steps, _coupled_steps = unrolled(_step, states=2, parameters=2), unrolled(_coupled_step, states=2, parameters=2)


class Layer(Recurrent):
    """An LSTM over sequences: see :class:`wyrm.nn.recurrent.Recurrent` for sequences and states, which are (hidden, cell)."""

    state_size = 2

    def __init__(self, cell: Cell) -> None:
        super().__init__(cell.shared.hidden_dim, cell.shared.weights.dtype)
        self.input_dim = cell.shared.input_dim
        self.cell = cell

    def step(self, state: tuple[Node, ...], x: Node) -> tuple[Node, ...]:
        """The next (hidden, cell)."""
        hidden, cell = as_nodes(type(self).__name__, state, 2)
        return self.cell.forward((hidden, cell), x)

    def _unrolled(self, state: tuple[Node, ...], inputs: Sequence[Node] | Node) -> tuple[Outputs, tuple[Node, ...]]:
        if type(self).step is not Layer.step or type(self.cell) is not Cell:
            return super()._unrolled(state, inputs)
        result: tuple[Outputs, tuple[Node, ...]] = self.cell.unrolled(state, inputs)
        return result


class LSTM(Layer):
    """An LSTM over sequences: see :class:`wyrm.nn.recurrent.Recurrent` for sequences and states, which are (hidden, cell).

    Parameters
    ----------
    input_dim, hidden_dim
        The columns of input and output.
    bidirectional
        Whether a second such layer goes over the reversed sequence.
    coupled
        Whether the input gate is 1 less the forget gate (Greff et al. 2017); its own weights are left alone.
    rng, dtype
        Seed or generator of the weights, and their dtype.

    Attributes
    ----------
    weights, biases
        As in :class:`Parameters`.

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.LSTM(16, 32, bidirectional=True, rng=1)
    >>> layer([wyrm.InputNode((3, 16))])[0].shape
    (3, 64)
    >>> list(layer.named_parameters())
    ['weights', 'biases', 'reverse.weights', 'reverse.biases']
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        bidirectional: bool = False,
        coupled: bool = False,
        rng: Rng = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        draws = generator(rng)
        parameters = Parameters(input_dim, hidden_dim, rng=draws, dtype=dtype)
        self.weights, self.biases = parameters.weights, parameters.biases  # the first path to each
        super().__init__(Cell(parameters, coupled=coupled))
        if bidirectional:
            self._make_bidirectional(LSTM(input_dim, hidden_dim, coupled=coupled, rng=draws, dtype=dtype))
