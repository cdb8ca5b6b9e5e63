"""An optimizer of one's own: Lion (Chen et al., NeurIPS 2023, algorithm 2), which steps by the sign of an average of gradients.

What a step does to one row is written with kernels, and runs natively on every backend, dense and row-sparse; options such as
``l2``, ``weight_decay`` and clipping, schedules, groups and saving come with the base class.

    python own_optimizer.py
"""

import numpy as np

import wyrm
from wyrm.optim import Optimizer, State


class Lion(Optimizer):
    """Sign steps: ``w -= learning_rate * sign(beta1 * average + (1 - beta1) * gradient)``."""

    name = "lion"
    states = (State("average"),)
    always = frozenset({"learning_rate", "beta1", "beta2"})

    def __init__(self, learning_rate, parameters, *, beta1=0.9, beta2=0.99, **options):
        super().__init__(learning_rate, parameters, beta1=beta1, beta2=beta2, **options)

    @staticmethod
    def update(k, value, gradient, state, scalar):
        """One step of one row."""
        change = k.subtract(gradient, state.average)
        towards = k.subtract(gradient, k.multiply(scalar.beta1, change))
        zero = k.literal(0.0)
        sign = k.subtract(k.greater(towards, zero), k.greater(zero, towards))
        average = k.subtract(gradient, k.multiply(scalar.beta2, change))
        return k.subtract(value, k.multiply(scalar.learning_rate, sign)), {"average": average}


def train(backend: str | None = None) -> float:
    """Fit a linear model; returns the largest error of its weights."""
    rng = np.random.default_rng(1)
    features, true = rng.standard_normal((2000, 5)), np.array([[1.0], [-2.0], [0.5], [3.0], [0.0]])
    x, y = wyrm.InputNode((1, 5)), wyrm.InputNode((1, 1))
    weights = wyrm.ParameterNode(np.zeros((5, 1)))
    loss = (x.dot(weights) - y).square()
    optimizer = Lion(wyrm.optim.schedules.cosine(0.02, 3 * 2000), loss.parameters())
    wyrm.fit(loss, {x: features, y: features @ true}, optimizer, num_epochs=3, seed=1, backend=backend)
    return float(np.abs(weights.value - true).max())


if __name__ == "__main__":
    print(f"the weights are off by at most {train():.4f}")
