"""W8 in NumPy, with its products on one thread: what batches are compared to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.by_hand import ByHand
from benchmarks.workloads import Workload

__all__ = ["competitors"]

Array = npt.NDArray[Any]
_RATE = np.float32(0.05)


def competitors(workload: Workload) -> list[Callable[[], ByHand]]:
    """Makers of what takes part in a workload."""
    return [lambda: ByHand(workload, "NumPy, one thread", _perceptron)] if workload.key == "w8" else []


def _perceptron(
    weights: Array, biases: Array, output_weights: Array, output_bias: Array, x: Array, y: Array, start: int, stop: int
) -> float:
    total = 0.0
    for inputs, targets in zip(x[start:stop], y[start:stop], strict=True):
        hidden = np.maximum(inputs @ weights + biases, 0)
        error = hidden @ output_weights + output_bias - targets
        total += float(np.mean(error * error))
        back = error * (2 / np.float32(len(error)))
        hidden_back = back @ output_weights.T * (hidden > 0)
        output_weights -= _RATE * (hidden.T @ back)
        output_bias -= _RATE * back.sum()
        weights -= _RATE * (inputs.T @ hidden_back)
        biases -= _RATE * hidden_back.sum(axis=0)
    return total
