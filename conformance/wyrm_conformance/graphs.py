"""Random graphs: ops, shapes, sharing, several heads, dense and sparse uses of one parameter mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Array, Context, check

__all__ = ["Graph", "passes", "random_graph", "trained"]

LENGTHS = (1, 1, 2, 3, 5, 8, 9)
#: How many graphs a check looks at.
GRAPHS = 40
#: Functions of one node that keep its elements small.
UNARY: dict[str, Callable[[wyrm.Node], wyrm.Node]] = {
    "neg": lambda a: -a,
    "square": lambda a: (a * 0.5).square(),
    "exp": lambda a: a.tanh().exp(),
    "ln": lambda a: (a.square() + 0.5).ln(),
    "sqrt": lambda a: (a.square() + 0.5).sqrt(),
    "tanh": lambda a: a.tanh(),
    "sigmoid": lambda a: a.sigmoid(),
    "softplus": lambda a: a.softplus() * 0.5,
    "log_sigmoid": lambda a: a.log_sigmoid() * 0.5,
    "power": lambda a: (a.square() + 0.5) ** -0.5,
    "t": lambda a: a.t(),
    "sum": lambda a: a.scalar_sum(),
    "sum of columns": lambda a: a.sum(axis=0),
    "mean of rows": lambda a: a.mean(axis=1),
    "softmax": lambda a: a.softmax(),
    "log_softmax": lambda a: a.log_softmax() * 0.3,
    "logsumexp": lambda a: a.logsumexp() * 0.5,
    "reshape": lambda a: a.reshape(-1, 1) if a.shape[0] == 1 else a.reshape(1, -1),
    "half": lambda a: a[: (a.shape[0] + 1) // 2, a.shape[1] // 2 :],
}
#: Functions of two.
BINARY: dict[str, Callable[[wyrm.Node, wyrm.Node], wyrm.Node]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b.square() + 1.0),
    "dot": lambda a, b: a.dot(b) * 0.3,
    "vector_dot": lambda a, b: a.vector_dot(b) * 0.3,
    "stack": lambda a, b: a.stack(b),
    "stack beside": lambda a, b: wyrm.stack([a, b, a], axis=1),
    "lstm_cell": lambda a, b: wyrm.stack([a, b, b, a], axis=1).lstm_cell(a),
}
#: Functions with kinks: gradients beside one depend on the last bit of what comes in.
KINKED: dict[str, Callable[[wyrm.Node, wyrm.Node], wyrm.Node]] = {
    "relu": lambda a, b: (a + 0.01).relu(),
    "maximum": lambda a, b: a.maximum(b + 0.013),
    "where": lambda a, b: wyrm.where(np.eye(3, 2)[:1], a, b) if a.shape[1] == 2 else a + b,
}
CHOICES = [*UNARY, *BINARY, "add", "multiply", "dot", "index", "bag", "pick", "dropout", "constant", "detach"]


class Graph(NamedTuple):
    """Heads over parameters, with weights to differentiate them by; the inputs and what they are set to."""

    parameters: list[wyrm.ParameterNode]
    heads: list[wyrm.Node]
    weights: list[float]
    inputs: dict[Any, Any]


def random_graph(rng: np.random.Generator, dtype: str = "float64", max_ops: int = 12, kinks: bool = False) -> Graph:
    """A graph from a generator; the same state gives the same graph. ``kinks``: whether its ops may have some."""
    width, tables = int(rng.choice(LENGTHS[2:])), int(rng.integers(3, 7))
    shapes = ((tables, width), (width, width), (1, width), (1, 1))
    parameters = [wyrm.ParameterNode(rng.uniform(-1, 1, shape), dtype=dtype) for shape in shapes]
    inputs: dict[Any, Any] = {}
    nodes: list[wyrm.Node] = list(parameters)
    for _ in range(int(rng.integers(1, 3))):
        nodes.append(parameters[0].index(_index(rng, inputs, int(rng.choice([1, 1, 2, 4])), tables)))
    shape = (int(rng.choice(LENGTHS)), width)
    x = wyrm.InputNode(shape, rng.uniform(-1, 1, shape), dtype=dtype)
    inputs[x] = x.value
    nodes.append(x)
    for _ in range(int(rng.integers(2, max_ops))):
        try:
            nodes.append(_random_op(rng, nodes, inputs, [*CHOICES, *KINKED] if kinks else CHOICES))
        except wyrm.ShapeError:
            continue
    made = [node for node in nodes[len(parameters) :] if node.needs_gradient]
    heads = [made[-1]] + [made[int(rng.integers(len(made)))] for _ in range(int(rng.integers(0, 3)))]
    return Graph(parameters, heads, [float(rng.uniform(-2, 2)) for _ in heads], inputs)


def _index(rng: np.random.Generator, inputs: dict[Any, Any], count: int, limit: int) -> wyrm.IndexInputNode:
    index = wyrm.IndexInputNode(count, rng.integers(0, limit, count))
    inputs[index] = index.value
    return index


def _random_op(rng: np.random.Generator, nodes: list[wyrm.Node], inputs: dict[Any, Any], choices: Sequence[str]) -> wyrm.Node:
    # Later nodes more often: deep graphs.
    a, b = (nodes[int(len(nodes) * rng.beta(2, 1))] for _ in range(2))
    choice = str(rng.choice(choices))
    if choice in UNARY:
        return UNARY[choice](a)
    if choice in BINARY or choice in KINKED:
        return (BINARY | KINKED)[choice](a, b)
    if choice == "constant":
        return a * rng.uniform(-1, 1, a.shape) + float(rng.uniform(-1, 1))
    if choice == "detach":
        return a + b.detach() if a.shape == b.shape else a.detach()
    if choice == "dropout":
        return a.dropout(0.3, seed=int(rng.integers(100)))
    if choice == "bag":
        bag = wyrm.BagInputNode(2, [rng.integers(0, a.shape[0], int(rng.integers(0, 4))) for _ in range(2)])
        inputs[bag] = bag.value
        return a.index_sum(bag) if rng.random() < 0.5 else a.index_mean(bag)
    if choice == "pick":
        return a.pick(_index(rng, inputs, a.shape[0], a.shape[1]))
    return a.index(_index(rng, inputs, 3, a.shape[0]))


def passes(graph: Graph, backend: Any) -> list[Array]:
    """The heads' values and the parameters' gradients."""
    for head in graph.heads:
        head.forward(backend=backend)
    values = [head.value for head in graph.heads]
    for parameter in graph.parameters:
        parameter.zero_gradient()
    for head, weight in zip(graph.heads, graph.weights, strict=True):
        head.forward(backend=backend)
        head.backward(weight)
    return [*values, *(parameter.gradient.to_dense().copy() for parameter in graph.parameters)]


@check(
    "gradients/random graphs", "core", "ops combined at random, with shared parts and several heads, are right", at_least=500
)
def check_random_graphs(context: Context) -> None:
    """Values and gradients against the reference's, computed in float64."""
    for _ in range(GRAPHS):
        seed = int(context.rng.integers(2**31))
        with context.oracle() as reference:
            expected = passes(random_graph(np.random.default_rng(seed), "float64"), reference)
        for dtype in context.dtypes:
            context.case(f"random_graph(np.random.default_rng({seed}), {dtype!r}) of wyrm_conformance.graphs, on the reference")
            actual = passes(random_graph(np.random.default_rng(seed), dtype), context.backend)
            tolerance = 1e-10 if dtype == "float64" else 1e-3
            for n, (a, e) in enumerate(zip(actual, expected, strict=True)):
                context.compare(f"value or gradient {n} of graph {seed} in {dtype}", a, e, tolerance)


@check("training/random graphs", "training", "fit does to any graph what the reference's steps do to it", at_least=200)
def check_training(context: Context) -> None:
    """One epoch of six examples, in the most exact dtype that the backend has."""
    dtype = context.dtypes[0]
    for _ in range(GRAPHS // 2):
        seed = int(context.rng.integers(2**31))
        with context.oracle() as reference:
            expected = trained(seed, "float64", reference, by_steps=True)
        context.case(f"random_graph(np.random.default_rng({seed}), {dtype!r}): its steps on the reference in float64")
        actual = trained(seed, dtype, context.backend, by_steps=False)
        for a, e in zip(actual, expected, strict=True):
            context.compare(f"a parameter of graph {seed}", a, e, 1e-10 if dtype == "float64" else 1e-3)


def trained(seed: int, dtype: str, backend: Any, by_steps: bool, kinks: bool = False) -> list[Array]:
    """The parameters after an epoch; none where there is nothing to train or to feed."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, dtype, kinks=kinks)
    loss = graph.heads[0].scalar_sum() * 1e-2
    used = set(loss._ancestors())
    feed: dict[Any, Any] = {}
    for node, value in graph.inputs.items():
        if node in used and isinstance(node, wyrm.BagInputNode):
            feed[node] = [bag[: int(rng.integers(4))] for bag in value.to_lists() * 6]
        elif node in used and value.dtype == np.int64:
            feed[node] = rng.integers(0, value.max() + 1, (6, *value.shape))
        elif node in used:
            feed[node] = rng.uniform(-1, 1, (6, *value.shape))
    if not feed or not loss.needs_gradient:
        return []
    optimizer = SGD(0.1, loss.parameters(), l2=0.01)
    if not by_steps:
        wyrm.fit(loss, feed, optimizer, shuffle=False, backend=backend)
    else:
        for example in range(6):
            for node, values in feed.items():
                bags = isinstance(node, wyrm.BagInputNode)
                node.set_value(values[example * node.shape[0] : (example + 1) * node.shape[0]] if bags else values[example])
            loss.forward(backend=backend)
            loss.backward(1.0)
            optimizer.step()
    return [parameter.value.copy() for parameter in graph.parameters]
