"""What is made of a model for each use of it: the loss of a run for training, that of each example for validation, values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from wyrm.errors import DTypeError, ShapeError
from wyrm.frontend.node import Node
from wyrm.training.models import Finish

__all__ = ["TRAINING", "VALIDATION", "VALUES", "Values", "loss_of"]

#: The loss of a run: the sum over its examples, with their weights.
TRAINING = "training"
#: The loss of each example of a run, (examples, 1), without weights.
VALIDATION = "validation"
#: What is evaluated.
VALUES = "values"


def loss_of(label: str, mean: bool) -> Finish:
    """Takes what a model returns as a loss.

    Parameters
    ----------
    label
        What messages call the model.
    mean
        Whether a step is made by the mean of its examples; else by their sum.
    """
    return partial(_loss, label, mean)


def _loss(label: str, mean: bool, result: Any, examples: int, weight: Node | None) -> Mapping[str, Sequence[Node]]:
    loss = result[0] if isinstance(result, list) and len(result) == 1 else result
    if not isinstance(loss, Node):
        raise DTypeError(f"fit: expected {label} to return a loss, a node of shape (1, 1), got {result!r}")
    rows, cols = loss.shape
    if cols != 1 or loss.dtype == "int64" or rows == 0:
        raise ShapeError(
            f"fit: expected a loss of shape (1, 1), or a column with as many rows for each example from {label}, got {loss!r}; "
            f".sum(axis=1) adds columns up"
        )
    if rows % examples == 0:
        by_example = loss if rows == examples else loss.reshape(examples, rows // examples).sum(axis=1)
        total = by_example if weight is None else by_example * weight
        return {TRAINING: [total.scalar_sum() if examples > 1 else total], VALIDATION: [by_example]}
    if rows > 1:
        raise ShapeError(
            f"fit: expected a loss with as many rows for each of the {examples} examples of a run from {label}; got {loss!r}"
        )
    if mean:
        raise ShapeError(
            f"fit: {label} returns one number for a run of {examples} examples, {loss!r}, which does not say whether it is "
            f"their sum or their mean; return a row for each example, of which fit takes the mean (losses have it unless a "
            f"reduction is asked for), or, to minimise the sum, pass reduction='sum'"
        )
    if weight is not None:
        raise ShapeError(
            f"fit: with weights, and runs of {examples} examples, expected a row for each example from {label}; got {loss!r}, "
            f"which is reduced already"
        )
    return {TRAINING: [loss], VALIDATION: [loss * np.full((examples, 1), 1 / examples)]}  # shared out


class Values:
    """Takes what a model returns, one node or several, as values; ``label`` is what messages call it.

    Attributes
    ----------
    single
        Whether it was one node.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.single = False

    def __call__(self, result: Any, examples: int, weight: Node | None) -> Mapping[str, Sequence[Node]]:
        """The values, each with as many rows for every example."""
        self.single = isinstance(result, Node)
        nodes = [result] if isinstance(result, Node) else result
        if not isinstance(nodes, (list, tuple)) or not nodes or not all(isinstance(node, Node) for node in nodes):
            raise DTypeError(f"evaluate: expected {self.label} to be a node or several nodes, got {result!r}")
        for node in nodes:
            if node.dtype == "int64":
                raise DTypeError(f"evaluate: expected real numbers from {self.label}, got {node!r}, which holds row numbers")
            if node.shape[0] % examples:
                raise ShapeError(
                    f"evaluate: with runs of {examples} examples, expected as many rows for each of them from {self.label}, "
                    f"got {node!r}"
                )
        return {VALUES: list(nodes)}
