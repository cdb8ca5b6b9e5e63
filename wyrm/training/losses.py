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

#: The loss of a run, summed over its examples, with their weights.
TRAINING = "training"
#: The loss of each example of a run, (examples, 1), without weights.
VALIDATION = "validation"
#: What is evaluated.
VALUES = "values"


def loss_of(label: str) -> Finish:
    """Takes what a model returns as a loss; ``label`` is what messages call it."""
    return partial(_loss, label)


def _loss(label: str, result: Any, examples: int, weight: Node | None) -> Mapping[str, Sequence[Node]]:
    loss = result[0] if isinstance(result, list) and len(result) == 1 else result
    if not isinstance(loss, Node):
        raise DTypeError(f"fit: expected {label} to return a loss, a node of shape (1, 1), got {result!r}")
    rows, cols = loss.shape
    if cols != 1 or loss.dtype == "int64" or rows == 0:
        raise ShapeError(
            f"fit: expected a loss of shape (1, 1), or of one column, whose rows are summed, from {label}; got {loss!r}; "
            f"reduce it with .scalar_sum()"
        )
    weighted = loss
    if weight is not None:
        if rows != examples and examples > 1:
            raise ShapeError(
                f"fit: with weights, and rows of {examples} examples, expected a loss of shape ({examples}, 1), a row for each "
                f"example, from {label}; got {loss!r}; losses have it with reduction='none'"
            )
        weighted = loss * weight
    if rows == examples:
        each = loss
    else:  # what is summed already is shared out
        each = loss.scalar_sum() if examples == 1 else loss.scalar_sum() * np.full((examples, 1), 1 / examples)
    return {TRAINING: [weighted if weighted.shape == (1, 1) else weighted.scalar_sum()], VALIDATION: [each]}


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
