"""Losses: functions of nodes, by row.

Each example is a row. A loss is summed along its row, multiplied with the example's weight, and then reduced:
``"none"``, the default, one for each row, of shape (B, 1), as a function returns it to :func:`wyrm.fit`, which takes the mean;
``"sum"``, over all rows, of shape (1, 1); ``"mean"``, likewise, divided by the number of rows. ``weights`` is a number,
or an array or node with a number for each row, (B, 1).

In a loop of your own, ``loss.backward(1.0)`` sums the gradients of all rows; for those of the mean, ask for
``reduction="mean"``, or call ``loss.backward(1 / B)``.

Targets have the shape of the predictions, or are a plain number: nothing is broadcast. A loss that takes certain labels only,
:func:`binary_cross_entropy` and :func:`hinge`, refuses others by a :class:`wyrm.LabelError` where they enter: as it is made, in
``set_value``, and in the feeds of :func:`wyrm.fit` and :func:`wyrm.evaluate`. This holds for labels that are an input, a part
of one, several put together, or any of these times a number plus a number, such as ``2 * y[:, :1] - 1``; what is computed in
any other way is not checked.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_number, shown
from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.inputs import IndexInputNode
from wyrm.frontend.labels import Labels, expect_labels
from wyrm.frontend.node import Node, NodeLike
from wyrm.frontend.samples import SampledIndexNode
from wyrm.frontend.values import as_reals

__all__ = [
    "Reduction",
    "SparseCategoricalCrossentropy",
    "absolute",
    "binary_cross_entropy",
    "bpr",
    "hinge",
    "huber",
    "sparse_categorical_crossentropy",
    "squared",
    "warp",
]

Array = npt.NDArray[Any]
Reduction = Literal["sum", "mean", "none"]
_BINARY = Labels("binary_cross_entropy", 0.0, 1.0, True, "labels of -1 and 1 become 0 and 1 by (y + 1) / 2")
_SIGNS = Labels("hinge", -1.0, 1.0, False, "labels of 0 and 1 become -1 and 1 by 2 * y - 1")


def _paired(loss: str, prediction: Node, target: NodeLike) -> NodeLike:
    """A target of the shape of a prediction, or a number."""
    _check_node(loss, prediction)
    if isinstance(target, Node):
        if target.dtype == "int64":
            raise DTypeError(
                f"{loss}: expected real numbers as targets, got {target!r}, which holds row numbers; a function gets whole "
                f"numbers as real ones if they are wrapped in wyrm.Dense"
            )
        shape: tuple[int, ...] = target.shape
    else:
        target = as_reals(target, f"{loss}: target")
        shape = target.shape
    if shape not in (prediction.shape, ()):
        raise ShapeError(
            f"{loss}: expected targets of the shape of {prediction!r}, or a number, got shape {shape}; nothing is broadcast, "
            f"because a column beside a row would make a loss of every pair"
        )
    return target


def _check_node(loss: str, prediction: Any) -> None:
    if not isinstance(prediction, Node) or prediction.dtype == "int64":
        raise DTypeError(f"{loss}: expected a node of real numbers as prediction, got {shown(prediction)}")


def _reduced(losses: Node, weights: NodeLike | None, reduction: Reduction) -> Node:
    if not isinstance(reduction, str) or reduction not in ("none", "sum", "mean"):
        raise OptionError(f"loss: expected a reduction of 'sum', 'mean' or 'none', got {shown(reduction)}")
    by_row = losses if losses.shape[1] == 1 else losses.sum(axis=1)
    if weights is not None:
        weighted = by_row * weights
        if weighted.shape != by_row.shape:
            shape = weights.shape if isinstance(weights, Node) else np.shape(weights)
            raise ShapeError(
                f"loss: expected weights of shape {by_row.shape}, one for each row, or a number; got shape {shape}"
            )
        by_row = weighted
    if reduction == "none" or by_row.shape == (1, 1):
        return by_row
    return by_row.scalar_sum() if reduction == "sum" else by_row.mean()


class SparseCategoricalCrossentropy(Node):
    """What :func:`sparse_categorical_crossentropy` returns: a loss that knows the predictions behind it."""

    __slots__ = ("_log_probabilities",)

    _log_probabilities: Node

    def predictions(self) -> Array:
        """The probability of each class, (B, classes), as of the last forward pass."""
        return np.exp(self._log_probabilities.value)


def sparse_categorical_crossentropy(
    logits: Node, classes: IndexInputNode, *, weights: NodeLike | None = None, reduction: Reduction = "none"
) -> SparseCategoricalCrossentropy:
    """``-ln(softmax(logits)[class])`` of each row.

    Parameters
    ----------
    logits
        (B, classes).
    classes
        The class of each row: B indices.
    weights, reduction
        See the module.

    Examples
    --------
    >>> import wyrm
    >>> logits = wyrm.InputNode((2, 3), [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    >>> loss = wyrm.nn.losses.sparse_categorical_crossentropy(logits, wyrm.IndexInputNode(2, [1, 0]))
    >>> loss.forward()
    >>> loss.predictions().round(3)
    array([[0.333, 0.333, 0.333],
           [1.   , 0.   , 0.   ]], dtype=float32)
    """
    _check_node("sparse_categorical_crossentropy", logits)
    log_probabilities = logits.log_softmax()
    loss = SparseCategoricalCrossentropy.of(_reduced(-log_probabilities.pick(classes), weights, reduction))
    loss._log_probabilities = log_probabilities
    return loss


def binary_cross_entropy(
    logits: Node, targets: NodeLike, *, weights: NodeLike | None = None, reduction: Reduction = "none"
) -> Node:
    """``-t ln(p) - (1 - t) ln(1 - p)`` with ``p = sigmoid(logit)``, without loss of digits at any logit.

    Targets are from 0 to 1, labels or probabilities; both are (B, n).

    Raises
    ------
    LabelError
        If a target is below 0 or above 1, here or when it is set or fed.
    """
    targets = _paired("binary_cross_entropy", logits, targets)
    product = logits * targets
    expect_labels(targets, _BINARY, product)
    return _reduced(logits.softplus() - product, weights, reduction)


def squared(prediction: Node, target: NodeLike, *, weights: NodeLike | None = None, reduction: Reduction = "none") -> Node:
    """``(prediction - target) ** 2``; both are (B, n)."""
    target = _paired("squared", prediction, target)
    return _reduced((prediction - target).square(), weights, reduction)


def absolute(prediction: Node, target: NodeLike, *, weights: NodeLike | None = None, reduction: Reduction = "none") -> Node:
    """``|prediction - target|``; both are (B, n)."""
    target = _paired("absolute", prediction, target)
    return _reduced(abs(prediction - target), weights, reduction)


def huber(
    prediction: Node,
    target: NodeLike,
    *,
    delta: float = 1.0,
    weights: NodeLike | None = None,
    reduction: Reduction = "none",
) -> Node:
    """``d ** 2 / 2`` where the difference d is at most ``delta``, else ``delta * (d - delta / 2)`` (Huber 1964).

    Raises
    ------
    OptionError
        Where ``delta`` is not above 0.
    """
    delta = check_number(delta, "huber: delta", above=0)
    difference = abs(prediction - _paired("huber", prediction, target))
    near = difference.minimum(delta)
    return _reduced(near * (difference - near * 0.5), weights, reduction)


def hinge(
    score: Node,
    target: NodeLike = 1.0,
    *,
    margin: float = 1.0,
    weights: NodeLike | None = None,
    reduction: Reduction = "none",
) -> Node:
    """``max(0, margin - target * score)``; targets are -1 and 1, a number or (B, n) as the scores.

    Of pairs of which the first should be ranked higher: ``hinge(positive - negative)``.

    Raises
    ------
    LabelError
        If a target is neither -1 nor 1, here or when it is set or fed.
    """
    margin, target = check_number(margin, "hinge: margin"), _paired("hinge", score, target)
    product = score * target
    expect_labels(target, _SIGNS, product)
    return _reduced((margin - product).relu(), weights, reduction)


def bpr(positive: Node, negative: NodeLike, *, weights: NodeLike | None = None, reduction: Reduction = "none") -> Node:
    """``-ln(sigmoid(positive - negative))``: Bayesian personalised ranking (Rendle et al., UAI 2009).

    Scores of things that were chosen, and of others that were not, (B, n) each.
    """
    return _reduced((_paired("bpr", positive, negative) - positive).softplus(), weights, reduction)


def warp(
    positive: Node,
    negative: Node,
    sample: SampledIndexNode,
    *,
    tries: int = 10,
    margin: float = 1.0,
    by_rank: bool = True,
    weights: NodeLike | None = None,
) -> Node:
    """``ln(1 + rank) * max(0, margin - positive + negative)`` for the first negative that violates the margin, of those drawn.

    Weighted approximate-rank pairwise loss (Weston, Bengio and Usunier, IJCAI 2011): ``sample``, by which ``negative`` looks
    its row up, is drawn until the loss is positive; the fewer draws that takes, the lower the positive one must be ranked.
    Where no draw violates the margin, the loss is 0.

    Parameters
    ----------
    positive, negative
        Scores of something that was chosen, and of what the sample names, (1, 1) each.
    sample
        One number, which is drawn for this loss alone.
    tries
        How many draws there are at most.
    by_rank
        Whether to multiply with ``ln(1 + rank)``; else with 1. ``rank`` is ``max(1, (rows - 1) // draws)``; see
        :meth:`Node.rank`. The paper weighs by ``1 + 1/2 + ... + 1/rank``, of which ``ln(1 + rank)`` is a lower bound that is
        off by less than 0.58. ``ln(rank)``, which some take, differs little for many rows; but at rank 1 it is 0, where a pair
        is still in the wrong order: nothing would be learnt from two rows, and little from few.
    weights
        A number or a node of shape (1, 1).

    Raises
    ------
    ShapeError, DTypeError, OptionError
        As for :meth:`Node.redraw`.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> users, items = (wyrm.ParameterNode(np.ones((rows, 4))) for rows in (5, 100))
    >>> user, item, seen = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.BagInputNode()
    >>> sample, row = wyrm.SampledIndexNode(100, exclude=seen, seed=1), users.index(user)
    >>> positive, negative = (row.vector_dot(items.index(chosen)) for chosen in (item, sample))
    >>> loss = wyrm.nn.losses.warp(positive, negative, sample)
    >>> feed = {user: [0, 1, 2], item: [7, 8, 9], seen: [[7, 8], [8], [8, 9]]}
    >>> history = wyrm.fit(loss, feed, wyrm.optim.SGD(0.1, loss.parameters()))
    """
    margin = check_number(margin, "warp: margin")
    for scores in (positive, negative):
        _check_node("warp", scores)
    redrawn = (margin - positive + _paired("warp", positive, negative)).redraw(sample, tries)
    loss = redrawn.relu()
    return _reduced(loss * (redrawn.rank() + 1.0).ln() if by_rank else loss, weights, "sum")
