"""The workloads as graphs: a loss, an optimizer, and what each input is fed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import wyrm
from benchmarks import data
from wyrm import nn
from wyrm.optim import FTRL, SGD, Optimizer

__all__ = ["LSTM", "MODELS", "Model", "chain", "factorization", "lstm", "part", "perceptron", "skip_gram"]

Array = npt.NDArray[Any]


@dataclass
class Model:
    """A graph for one example, or a function that makes it, with parameters of its own.

    Attributes
    ----------
    feed
        By input, or by the function's argument, the values of all examples.
    """

    loss: Any
    optimizer: Optimizer
    feed: dict[Any, Any]


def part(values: Any, start: int, stop: int) -> Any:
    """The examples from ``start`` to ``stop`` of what an input is fed."""
    if isinstance(values, wyrm.Bags):
        return values.take(np.arange(start, stop))
    if isinstance(values, wyrm.Ragged):
        return wyrm.Ragged(values.values, values.offsets[start : stop + 1])
    return values[start:stop]


def _regression() -> Model:
    first = data.first()
    slope, intercept = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0)
    x, y = wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    loss = (slope * x + intercept - y).square()
    return Model(loss, SGD(0.1, loss.parameters()), {x: first.x, y: first.y})


def factorization(values: data.Factorization) -> Model:
    """Of ratings, squared error."""
    user_table, item_table = wyrm.ParameterNode(values.user_table), wyrm.ParameterNode(values.item_table)
    user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = (user_table.index(user).vector_dot(item_table.index(item)) - rating).square()
    return Model(loss, SGD(0.01, loss.parameters()), {user: values.users, item: values.items, rating: values.ratings})


class LSTM:
    """The parameters of W3 and W4, and the loss of a sequence."""

    def __init__(self) -> None:
        values = data.first().lstm
        self.embedding = wyrm.ParameterNode(values.embedding)
        self.parameters = nn.lstm.Parameters(data.EMBEDDED, data.HIDDEN)
        self.parameters.weights.set_value(values.weights)
        self.parameters.biases.set_value(values.biases)
        self.output_weights = wyrm.ParameterNode(values.output_weights)
        self.output_biases = wyrm.ParameterNode(values.output_biases)
        own = [self.embedding, self.output_weights, self.output_biases]
        self.optimizer = SGD(0.05, [*own, self.parameters.weights, self.parameters.biases])

    def loss(self, tokens: list[wyrm.IndexInputNode], following: wyrm.IndexInputNode) -> wyrm.Node:
        """Of predicting the token that follows others, each an input of its own."""
        return self._loss([self.embedding.index(token) for token in tokens], following)

    def loss_of_sequence(self, tokens: wyrm.IndexInputNode, following: wyrm.IndexInputNode) -> wyrm.Node:
        """The same, where one input has all the tokens."""
        return self._loss(self.embedding.index(tokens), following)

    def _loss(self, inputs: list[wyrm.Node] | wyrm.Node, following: wyrm.IndexInputNode) -> wyrm.Node:
        _, (hidden, _) = self.parameters.build().forward(inputs, return_state=True)
        logits = hidden.dot(self.output_weights) + self.output_biases
        return nn.losses.sparse_categorical_crossentropy(logits, following)


def lstm(length: int = 4) -> Model:
    """Over sequences of one length."""
    parameters = LSTM()
    tokens, following = [wyrm.IndexInputNode() for _ in range(length)], wyrm.IndexInputNode()
    columns = data.first().sequences.T
    return Model(
        parameters.loss(tokens, following), parameters.optimizer, dict(zip([*tokens, following], columns, strict=False))
    )


def _sequences() -> Model:
    """Over sequences of any length: a function, which is traced once for each."""
    lstm, first = LSTM(), data.first()
    place = np.arange(data.LONGEST + 1)
    tokens = first.sequences[place < first.lengths[:, None]]
    offsets = np.concatenate([[0], np.cumsum(first.lengths, dtype=np.int64)])
    following = first.sequences[place == first.lengths[:, None]]
    return Model(lstm.loss, lstm.optimizer, {"tokens": wyrm.Ragged(tokens, offsets), "following": following})


def chain(length: int) -> Model:
    """Of one number and two parameters, over and over: a graph of so many nodes that do almost nothing."""
    first = data.first()
    slope, intercept = wyrm.ParameterNode(0.5), wyrm.ParameterNode(0.1)
    x, y = wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    node = x * slope
    for n in range(length):
        node = node * slope if n % 2 else node + intercept
    loss = (node - y).square()
    return Model(loss, SGD(1e-4, loss.parameters()), {x: first.x[:100_000], y: first.x[-100_000:]})


def skip_gram(drawn: bool = False) -> Model:
    """With the negatives that are fed, the same for everybody; or drawn at each step."""
    values = data.skip_gram()
    words, contexts = wyrm.ParameterNode(values.word_table), wyrm.ParameterNode(values.context_table)
    center, context = wyrm.IndexInputNode(), wyrm.IndexInputNode()
    feed = {center: values.centers, context: values.contexts}
    count = values.negatives.shape[1]
    if drawn:
        negatives: wyrm.Node = wyrm.SampledIndexNode(wyrm.Frequencies(data.word_frequencies(), power=0.75), count, seed=1)
    else:
        negatives = wyrm.IndexInputNode(count)
        feed[negatives] = values.negatives
    word = words.index(center)
    near, far = word.vector_dot(contexts.index(context)), word.vector_dot(contexts.index(negatives))
    loss = (-near).softplus() + far.softplus().scalar_sum()
    return Model(loss, SGD(0.025, loss.parameters()), feed)


def _clicks() -> Model:
    values = data.bags()
    weights = wyrm.ParameterNode(np.zeros((values.features, 1)))
    features, clicked = wyrm.BagInputNode(), wyrm.InputNode((1, 1))
    loss = nn.losses.binary_cross_entropy(weights.index_sum(features), clicked)
    optimizer = FTRL(0.1, loss.parameters(), l1=0.1, l2=0.1)
    return Model(loss, optimizer, {features: wyrm.Bags(values.values, values.offsets), clicked: values.clicked})


def perceptron(rows: int = 256) -> Model:
    """Over batches of so many examples, of those of W8."""
    values = data.batches()
    width = values.x.shape[-1]
    x, y = wyrm.InputNode((rows, width)), wyrm.InputNode((rows, 1))
    hidden_weights, hidden_biases, output_weights, output_biases = map(
        wyrm.ParameterNode, (values.hidden_weights, values.hidden_biases, values.output_weights, values.output_biases)
    )
    hidden = (x.dot(hidden_weights) + hidden_biases).relu()
    loss = (hidden.dot(output_weights) + output_biases - y).square().mean()
    return Model(
        loss,
        SGD(0.05 * rows / 256, loss.parameters()),
        {x: values.x.reshape(-1, rows, width), y: values.y.reshape(-1, rows, 1)},
    )


#: By workload: makes the model anew.
MODELS: dict[str, Callable[[], Model]] = {
    "w1": _regression,
    "w2": lambda: factorization(data.first().factorization),
    "w3": lstm,
    "w4": _sequences,
    "w5": lambda: factorization(data.first().factorization),
    "w5-large": lambda: factorization(data.large_factorization()),
    "w6": skip_gram,
    "w7": _clicks,
    "w8": perceptron,
}
