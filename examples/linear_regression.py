"""The first example: a line through points, step by step from Python and with the loop in native code.

``python examples/linear_regression.py [BACKEND]``
"""

import sys

import numpy as np

import wyrm
from wyrm.optim import SGD


def regression(backend: str | None = None) -> tuple[float, float]:
    """Fit ``y = 3 x + 5``; returns the slope and the intercept that were found."""
    rng = np.random.default_rng(0)
    slope = wyrm.ParameterNode(rng.random((1, 1)), name="slope")
    intercept = wyrm.ParameterNode(rng.random((1, 1)), name="intercept")
    x, y = wyrm.InputNode((1, 1), name="x"), wyrm.InputNode((1, 1), name="y")

    y_hat = slope * x + intercept
    loss = (y - y_hat).square()
    optimizer = SGD(0.1, loss.parameters())

    # Step by step ...
    for _ in range(100):
        value = rng.random()
        x.set_value(value)
        y.set_value(3.0 * value + 5.0)
        loss.forward(backend=backend)
        loss.backward(1.0)
        optimizer.step()

    # ... and the same with the loop in native code.
    xs = rng.random(1000)
    wyrm.fit(loss, {x: xs, y: 3.0 * xs + 5.0}, optimizer, num_epochs=5, seed=0, backend=backend)
    return float(slope.value[0, 0]), float(intercept.value[0, 0])


if __name__ == "__main__":
    found = regression(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"y = {found[0]:.4f} x + {found[1]:.4f}; the points lie on y = 3 x + 5")
