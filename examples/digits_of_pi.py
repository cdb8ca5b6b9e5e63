"""Learn the digits of π by heart: an LSTM reads four digits and says which comes next.

An embedding of ten digits in 16 dimensions, an LSTM of 32 units, a linear layer; Adam, 50 epochs over the first hundred digits.
This is the test of learning of the Rust crate wyrm, which asked for an accuracy of .75.

    python digits_of_pi.py [BACKEND]
"""

import sys

import numpy as np

import wyrm
from wyrm import nn

DIGITS = "3141592653589793238462643383279502884197169399375105820974944592307816406286208998628034825342117067"
LENGTH = 4


def train(backend: str | None = None, seed: int = 42) -> float:
    """Train, and return which share of the digits is predicted right."""
    rng = np.random.default_rng(seed)
    digits = np.array([int(digit) for digit in DIGITS])
    starts = np.arange(len(digits) - LENGTH)

    embedding = nn.Embedding(10, 16, rng=rng)
    lstm = nn.LSTM(16, 32, rng=rng)
    output = nn.Linear(32, 10, rng=rng)

    inputs = [wyrm.IndexInputNode(name=f"digit {n}") for n in range(LENGTH)]
    following = wyrm.IndexInputNode(name="the next")
    hidden = lstm.forward([embedding.forward(digit) for digit in inputs])
    logits = output.forward(hidden[-1])
    loss = nn.losses.sparse_categorical_crossentropy(logits, following)

    feed = {digit: digits[starts + n] for n, digit in enumerate(inputs)}
    answers = digits[starts + LENGTH]
    optimizer = wyrm.optim.Adam(0.01, loss.parameters())
    wyrm.fit(loss, {**feed, following: answers}, optimizer, num_epochs=50, seed=seed, backend=backend)
    predicted = wyrm.evaluate(logits, feed, backend=backend)[:, 0].argmax(axis=1)
    return float((predicted == answers).mean())


if __name__ == "__main__":
    print(f"{train(sys.argv[1] if len(sys.argv) > 1 else None):.0%} of the digits are predicted right")
