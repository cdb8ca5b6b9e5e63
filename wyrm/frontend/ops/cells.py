"""Steps of recurrent cells, each as one op, for which native backends have kernels of their own.

What a step's derivative needs is computed and kept with its result, in one matrix of which the op's result is a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wyrm.frontend.op import Op, Operand
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Cells"]


def _lstm_cell_shape(gates: Shape, cell: Shape) -> Shape:
    if gates[1] != 4 * cell[1]:
        raise ValueError(
            f"gates need 4 times as many columns as the cell, {4 * cell[1]} for a cell of {cell}, got {gates[1]} in {gates}"
        )
    if gates[0] != cell[0]:
        raise ValueError(f"gates and cell need equally many rows, got {gates} and {cell}")
    return cell[0], 2 * cell[1]


def _lstm_cell(k: Any, gates: Any, cell: Any) -> Any:
    rows, width = cell.shape
    return k.slice(k.once("lstm_cell", gates, cell), (0, rows), (0, 2 * width))


def _lstm_cell_gradients(k: Any, g: Any, gates: Any, cell: Any) -> Any:
    """The gradients by gates and cell, side by side: one call for both VJPs, on what the forward pass has kept."""
    return k.once("lstm_cell_vjp", *k.split(g, 2), k.once("lstm_cell", gates, cell), cell)


def _by_gates(k: Any, g: Any, y: Any, gates: Any, cell: Any) -> Any:
    rows, width = cell.shape
    return k.slice(_lstm_cell_gradients(k, g, gates, cell), (0, rows), (0, 4 * width))


def _by_cell(k: Any, g: Any, y: Any, gates: Any, cell: Any) -> Any:
    rows, width = cell.shape
    return k.slice(_lstm_cell_gradients(k, g, gates, cell), (0, rows), (4 * width, 5 * width))


LSTM_CELL = Op("lstm_cell", _lstm_cell_shape, _lstm_cell, (_by_gates, _by_cell))


class Cells(Operand):
    """Steps of recurrent cells as methods."""

    __slots__ = ()

    def lstm_cell(self, cell: NodeLike) -> Node:
        """One step of a long short-term memory, from the gates before their activation, which are this node.

        With f, i and o the sigmoids and g the tanh of the gates, the new cell is ``f * cell + i * g`` and the new hidden
        state ``o * tanh(new cell)`` (Hochreiter and Schmidhuber, Neural Computation 1997; with forget gates, Gers,
        Schmidhuber and Cummins, Neural Computation 2000).

        This node has shape (rows, 4 * width): the columns of the forget gates f, then those of the input gates i, the
        output gates o and the candidates g.

        Parameters
        ----------
        cell
            The old cell, of shape (rows, width).

        Returns
        -------
        Node
            Of shape (rows, 2 * width): the columns of the hidden state, then those of the new cell.

        Raises
        ------
        ShapeError
            Where this node has not 4 times the columns of the cell, or not as many rows.

        Examples
        --------
        >>> import wyrm
        >>> gates, cell = wyrm.InputNode((1, 8)), wyrm.InputNode((1, 2))
        >>> gates.set_value([[9.0, -9.0, 9.0, 9.0, 9.0, 9.0, 0.0, 1.0]])  # keep the one, forget the other
        >>> cell.set_value([[0.5, 0.5]])
        >>> state = gates.lstm_cell(cell)
        >>> hidden, new_cell = state[:, :2], state[:, 2:]
        >>> new_cell.value.round(2)
        array([[0.5 , 0.76]], dtype=float32)
        >>> hidden.value.round(2)
        array([[0.46, 0.64]], dtype=float32)
        """
        return self._binary(LSTM_CELL, cell)
