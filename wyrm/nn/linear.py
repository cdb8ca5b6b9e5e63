"""Linear layers and embeddings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_lengths, shown
from wyrm.errors import DTypeError, OutOfRangeError
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.inputs import IndexInputNode
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.nn.init import Rng, uniform, xavier_normal
from wyrm.nn.module import Module

__all__ = ["Embedding", "EmbeddingBag", "Linear"]


class Linear(Module):
    """``x @ weights + biases``, from (B, input_dim) to (B, output_dim).

    Parameters
    ----------
    input_dim, output_dim
        The columns of input and output.
    bias
        Whether there are biases, which begin with 0; the weights begin with :func:`xavier_normal`.
    rng, dtype
        Seed or generator of the weights, and the parameters' dtype.

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.Linear(3, 2, rng=1)
    >>> layer.forward(wyrm.InputNode((5, 3)))
    <add (5, 2)>
    """

    def __init__(
        self, input_dim: int, output_dim: int, *, bias: bool = True, rng: Rng = None, dtype: npt.DTypeLike | None = None
    ) -> None:
        check_lengths("Linear", input_dim=input_dim, output_dim=output_dim)
        self.weights = ParameterNode(xavier_normal(input_dim, output_dim, rng), name="weights", dtype=dtype)
        self.biases = ParameterNode(uniform(1, output_dim, 0, 0), name="biases", dtype=dtype) if bias else None

    def forward(self, x: Node) -> Node:
        """The layer's output for (B, input_dim)."""
        product = x @ self.weights  # of an array, too
        return product if self.biases is None else product + self.biases


class Embedding(Module):
    """A table with a row for each of ``count`` things; its gradient is row-sparse.

    Parameters
    ----------
    count, dim
        The rows and columns of the table, which begins with normal numbers of variance ``1 / dim``.
    padding_idx
        A row that begins with zeros and is frozen: no step changes it (:attr:`wyrm.ParameterNode.frozen_rows`, which may name
        others). Counted from the end if it is below 0.
    max_norm
        The greatest 2-norm of a row, to which updates that go beyond it are scaled back (:attr:`wyrm.ParameterNode.max_norm`).
    rng, dtype
        Seed or generator of the table, and its dtype.

    Raises
    ------
    OutOfRangeError
        If there is no row ``padding_idx``.

    Examples
    --------
    >>> import wyrm
    >>> wyrm.nn.Embedding(1000, 16).forward(wyrm.IndexInputNode(3))
    <index (3, 16)>
    """

    def __init__(
        self,
        count: int,
        dim: int,
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        rng: Rng = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        owner = type(self).__name__
        check_lengths(owner, count=count, dim=dim)
        scale = ((count + dim) / 2 / max(dim, 1)) ** 0.5
        table = xavier_normal(count, dim, rng) * scale
        frozen = None
        if padding_idx is not None:
            if not isinstance(padding_idx, (int, np.integer)) or isinstance(padding_idx, bool):
                raise DTypeError(f"{owner}: expected a row number or None as padding_idx, got {shown(padding_idx)}")
            if not -count <= padding_idx < count:
                raise OutOfRangeError(f"{owner}: padding_idx is {padding_idx}, and there are rows 0 to {count - 1}")
            frozen = [padding_idx % count]
            table[frozen] = 0
        self.table = ParameterNode(table, name="table", dtype=dtype, frozen_rows=frozen, max_norm=max_norm)

    def forward(self, index: IndexInputNode) -> Node:
        """The rows that the index names, (count, dim)."""
        return self.table.index(index)


class EmbeddingBag(Embedding):
    """An :class:`Embedding` that pools the rows of bags.

    Bags have any length, so they need no padding. A row ``padding_idx`` adds nothing to a sum, and counts in a mean.

    Examples
    --------
    >>> import wyrm
    >>> layer = wyrm.nn.EmbeddingBag(1000, 16)
    >>> layer(wyrm.BagInputNode(4), mean=True)
    <index_mean (4, 16)>
    """

    def forward(self, index: IndexInputNode | BagInputNode, *, mean: bool = False) -> Node:
        """:meth:`pool` for bags; for an index, the rows that it names, (count, dim)."""
        if isinstance(index, BagInputNode):
            return self.pool(index, mean=mean)
        if mean:
            raise DTypeError(f"{type(self).__name__}: expected bags to take means of, got {index!r}")
        return super().forward(index)

    def pool(self, bag: BagInputNode, *, mean: bool = False) -> Node:
        """The sum or mean of each bag's rows, (bags, dim); zeros for empty bags, and for means over weights that sum to 0."""
        return self.table.index_mean(bag) if mean else self.table.index_sum(bag)
