"""W1 to W3 and W8 by JAX: a step of SGD on the gradient of a jitted loss, scanned over the examples by ``lax.scan``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import nn
from jax import numpy as jnp

from benchmarks import data
from benchmarks.peers.protocol import Model, serve

_Workload = tuple[Callable[[Any, Any], Any], float, Any, tuple[Any, ...]]
#: How many examples a call may take: each length is compiled once, when the model is made.
_LENGTHS = (1000, 100, 10, 1)


def _regression() -> _Workload:
    first = data.first()

    def loss(parameters: Any, example: Any) -> Any:
        (slope, intercept), (x, y) = parameters, example
        return (slope * x + intercept - y) ** 2

    return loss, 0.1, (np.float32(0), np.float32(0)), (first.x, first.y)


def _factorization() -> _Workload:
    values = data.first().factorization

    def loss(parameters: Any, example: Any) -> Any:
        (users, items), (user, item, rating) = parameters, example
        return (users[user] @ items[item] - rating) ** 2

    return loss, 0.01, (values.user_table, values.item_table), (values.users, values.items, values.ratings)


def _sequences() -> _Workload:
    first = data.first()
    lstm = first.lstm

    def loss(parameters: Any, example: Any) -> Any:
        embedding, weights, biases, output_weights, output_biases = parameters
        (tokens,) = example
        hidden = cell = jnp.zeros(data.HIDDEN)
        for t in range(4):
            f, i, o, g = jnp.split(jnp.concatenate([hidden, embedding[tokens[t]]]) @ weights + biases[0], 4)
            cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * jnp.tanh(g)
            hidden = nn.sigmoid(o) * jnp.tanh(cell)
        return -nn.log_softmax(hidden @ output_weights + output_biases[0])[tokens[4]]

    parameters = (lstm.embedding, lstm.weights, lstm.biases, lstm.output_weights, lstm.output_biases)
    return loss, 0.05, parameters, (first.sequences,)


def _perceptron() -> _Workload:
    values = data.batches()

    def loss(parameters: Any, example: Any) -> Any:
        (weights, biases, output_weights, output_biases), (x, y) = parameters, example
        return jnp.mean((nn.relu(x @ weights + biases) @ output_weights + output_biases - y) ** 2)

    parameters = (values.hidden_weights, values.hidden_biases, values.output_weights, values.output_biases)
    return loss, 0.05, parameters, (values.x, values.y)


class Scan(Model):
    """Any of them."""

    def __init__(self) -> None:
        loss, rate, parameters, self.examples = _WORKLOADS[sys.argv[1]]()
        self.parameters = jax.tree.map(jnp.array, parameters)
        gradient = jax.value_and_grad(loss)

        def step(parameters: Any, example: Any) -> Any:
            value, move = gradient(parameters, example)
            return jax.tree.map(lambda p, m: p - rate * m, parameters, move), value

        scan = jax.jit(lambda parameters, examples: jax.lax.scan(step, parameters, examples), donate_argnums=0)
        self.epochs = {
            length: scan.lower(self.parameters, self._part(0, length)).compile()
            for length in _LENGTHS
            if length <= len(self.examples[0])
        }

    def _part(self, start: int, stop: int) -> tuple[Any, ...]:
        return tuple(values[start:stop] for values in self.examples)

    def run(self, start: int, stop: int) -> float:
        total = 0.0
        while start < stop:
            length = next(n for n in self.epochs if n <= stop - start)
            self.parameters, losses = self.epochs[length](self.parameters, self._part(start, start + length))
            total += float(losses.sum())
            start += length
        return total


_WORKLOADS = {"w1": _regression, "w2": _factorization, "w3": _sequences, "w8": _perceptron}


if __name__ == "__main__":
    serve(Scan)
