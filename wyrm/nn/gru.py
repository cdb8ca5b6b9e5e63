"""Gated recurrent units (Cho et al., EMNLP 2014), in the form that resets after the product, as cuDNN and PyTorch have it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from wyrm.arguments import check_lengths
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.nn.init import Rng, generator, uniform, xavier_normal
from wyrm.nn.recurrent import Outputs, Recurrent, unrolled

__all__ = ["GRU"]


class GRU(Recurrent):
    """A GRU over sequences: see :class:`wyrm.nn.recurrent.Recurrent` for sequences and states.

    With reset gate r, update gate z and candidate n: ``n = tanh(W x + b + r * (U h + c))``, ``h = n + z * (h - n)``.

    Parameters
    ----------
    input_dim, hidden_dim
        The columns of input and output.
    bidirectional
        Whether a second such layer goes over the reversed sequence.
    rng, dtype
        Seed or generator of the weights, and their dtype.

    Attributes
    ----------
    input_weights, hidden_weights
        (input_dim, 3 * hidden_dim) and (hidden_dim, 3 * hidden_dim), columns r, z, n; at first :func:`wyrm.nn.xavier_normal`.
    input_biases, hidden_biases
        (1, 3 * hidden_dim) each, likewise; at first 0.

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.GRU(16, 32, rng=1)
    >>> layer([wyrm.InputNode((3, 16))])[0].shape
    (3, 32)
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        *,
        bidirectional: bool = False,
        rng: Rng = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        super().__init__(hidden_dim, dtype)
        check_lengths("GRU", input_dim=input_dim, hidden_dim=hidden_dim)
        self.input_dim = input_dim
        draws = generator(rng)
        width = 3 * hidden_dim
        self.input_weights = ParameterNode(xavier_normal(input_dim, width, draws), name="input_weights", dtype=dtype)
        self.hidden_weights = ParameterNode(xavier_normal(hidden_dim, width, draws), name="hidden_weights", dtype=dtype)
        self.input_biases = ParameterNode(uniform(1, width, 0, 0), name="input_biases", dtype=dtype)
        self.hidden_biases = ParameterNode(uniform(1, width, 0, 0), name="hidden_biases", dtype=dtype)
        if bidirectional:
            self._make_bidirectional(GRU(input_dim, hidden_dim, rng=draws, dtype=dtype))

    def step(self, state: tuple[Node, ...], x: Node) -> tuple[Node, ...]:
        """The next hidden state."""
        return self._of(state, [x])[1]

    def _unrolled(self, state: tuple[Node, ...], inputs: Sequence[Node] | Node) -> tuple[Outputs, tuple[Node, ...]]:
        if type(self).step is not GRU.step:
            return super()._unrolled(state, inputs)
        return self._of(state, inputs)

    def _of(self, state: tuple[Node, ...], inputs: Sequence[Node] | Node) -> tuple[Outputs, tuple[Node, ...]]:
        return _steps(state, inputs, self.input_weights, self.hidden_weights, self.input_biases, self.hidden_biases)


def _step(state: tuple[Node, ...], x: Node, *parameters: Node) -> tuple[Node, ...]:
    (hidden,) = state
    input_weights, hidden_weights, input_biases, hidden_biases = parameters
    width = hidden.shape[1]
    a = x @ input_weights + input_biases
    b = hidden.dot(hidden_weights) + hidden_biases
    gates = (a[:, : 2 * width] + b[:, : 2 * width]).sigmoid()
    candidate = (a[:, 2 * width :] + gates[:, :width] * b[:, 2 * width :]).tanh()
    return (candidate + gates[:, width:] * (hidden - candidate),)


_steps = unrolled(_step, states=1, parameters=4)
