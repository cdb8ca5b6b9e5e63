"""Random graphs: ops, shapes, sharing, several heads, dense and sparse uses of one parameter mixed.

``python tests/random_graphs.py --backend NAME --graphs N`` compares a backend with the reference, and the reference with finite
differences, on N of them.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

import wyrm

LENGTHS = (1, 1, 2, 3, 5, 8, 9)
#: Functions of one node that keep its elements small.
UNARY = {
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
    "relu": lambda a: (a + 0.01).relu(),
}
#: Functions of two.
BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b.square() + 1.0),
    "dot": lambda a, b: a.dot(b) * 0.3,
    "vector_dot": lambda a, b: a.vector_dot(b) * 0.3,
    "stack": lambda a, b: a.stack(b),
    "stack beside": lambda a, b: wyrm.stack([a, b, a], axis=1),
    "lstm_cell": lambda a, b: wyrm.stack([a, b, b, a], axis=1).lstm_cell(a),
    "maximum": lambda a, b: a.maximum(b + 0.013),
    "where": lambda a, b: wyrm.where(np.eye(3, 2)[:1], a, b) if a.shape[1] == 2 else a + b,
}
CHOICES = [*UNARY, *BINARY, "add", "multiply", "dot", "index", "bag", "pick", "dropout", "constant", "detach"]


@dataclass
class Graph:
    """Heads over parameters, with the inputs' values already set."""

    parameters: list
    heads: list
    weights: list
    inputs: dict


def random_graph(rng, dtype="float64", max_ops=12):
    """A graph from a generator; the same state gives the same graph."""
    width = int(rng.choice(LENGTHS[2:]))
    tables = int(rng.integers(3, 7))
    parameters = [
        wyrm.ParameterNode(rng.uniform(-1, 1, (tables, width)), dtype=dtype, name="table"),
        wyrm.ParameterNode(rng.uniform(-1, 1, (width, width)), dtype=dtype, name="square"),
        wyrm.ParameterNode(rng.uniform(-1, 1, (1, width)), dtype=dtype, name="row"),
        wyrm.ParameterNode(rng.uniform(-1, 1, (1, 1)), dtype=dtype, name="scalar"),
    ]
    inputs = {}
    nodes = list(parameters)
    for _ in range(int(rng.integers(1, 3))):
        count = int(rng.choice([1, 1, 2, 4]))
        index = wyrm.IndexInputNode(count, rng.integers(0, tables, count))
        inputs[index] = index.value
        nodes.append(parameters[0].index(index))
    shape = (int(rng.choice(LENGTHS)), width)
    x = wyrm.InputNode(shape, rng.uniform(-1, 1, shape), dtype=dtype)
    inputs[x] = x.value
    nodes.append(x)
    for _ in range(int(rng.integers(2, max_ops))):
        node = _random_op(rng, nodes, inputs)
        if node is not None:
            nodes.append(node)
    made = [node for node in nodes if node.needs_gradient and node not in parameters] or [parameters[3] * 2.0]
    heads = [made[-1]] + [made[int(rng.integers(len(made)))] for _ in range(int(rng.integers(0, 3)))]
    return Graph(parameters, heads, [float(rng.uniform(-2, 2)) for _ in heads], inputs)


def _random_op(rng, nodes, inputs):
    def pick():
        # later nodes more often: deep graphs
        return nodes[int(len(nodes) * rng.beta(2, 1))]

    a, b = pick(), pick()
    choice = rng.choice(CHOICES)
    try:
        if choice in UNARY:
            return UNARY[choice](a)
        if choice in BINARY:
            return BINARY[choice](a, b)
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
            index = wyrm.IndexInputNode(a.shape[0], rng.integers(0, a.shape[1], a.shape[0]))
            inputs[index] = index.value
            return a.pick(index)
        index = wyrm.IndexInputNode(3, rng.integers(0, a.shape[0], 3))
        inputs[index] = index.value
        return a.index(index)
    except wyrm.ShapeError:
        return None


def gradients(graph, backend):
    """The heads' values and the parameters' gradients; the passes in an order that depends on the graph."""
    for head in graph.heads:
        head.forward(backend=backend)
    values = [head.value for head in graph.heads]
    for parameter in graph.parameters:
        parameter.zero_gradient()
    for head, weight in zip(graph.heads, graph.weights, strict=True):
        head.forward(backend=backend)
        head.backward(weight)
    return values, [parameter.gradient.to_dense().copy() for parameter in graph.parameters]


def evaluated(node):
    """The value of a node by a program of its own, that keeps nothing else."""
    kinds = (wyrm.InputNode, wyrm.IndexInputNode, wyrm.BagInputNode)
    leaves = [leaf for leaf in node._ancestors() if isinstance(leaf, kinds)]
    inputs = {leaf: leaf.value if isinstance(leaf, wyrm.BagInputNode) else leaf.value[None] for leaf in leaves}
    if not inputs:
        return node.value
    return wyrm.evaluate(node, inputs, backend="reference")[0]


def deviation(actual, expected):
    """The largest error relative to the larger of 1 and the largest expected element; infinite where anything is NaN."""
    assert actual.shape == expected.shape
    if not actual.size:
        return 0.0
    scale = max(1.0, float(np.max(np.abs(expected))))
    error = float(np.max(np.abs(actual - expected))) / scale
    return error if np.isfinite(error) else np.inf


def against_reference(seed, backend, tolerance=1e-9):
    """Values and gradients of a graph on a backend and on the reference; returns the worst error."""
    graph = random_graph(np.random.default_rng(seed))
    expected, actual = gradients(graph, "reference"), gradients(graph, backend)
    worst = max(deviation(a, e) for side in (0, 1) for a, e in zip(actual[side], expected[side], strict=True))
    assert worst <= tolerance, f"seed {seed}: backend {backend} is off by {worst:.3g}"
    return worst


def against_differences(seed, backend="reference", tolerance=1e-5):
    """Gradients of a graph and finite differences; returns the worst error. Detached uses are not differentiated by either."""
    graph = random_graph(np.random.default_rng(seed))
    if any(node._kind() == "detach" for head in graph.heads for node in head._ancestors()):
        return 0.0
    total = None
    for head, weight in zip(graph.heads, graph.weights, strict=True):
        part = head.scalar_sum() * weight
        total = part if total is None else total + part
    total.forward(backend=backend)
    worst = 0.0
    for parameter in graph.parameters:
        difference, gradient = wyrm.finite_difference(parameter, total)
        worst = max(worst, deviation(gradient, difference))
    assert worst <= tolerance, f"seed {seed}: gradients are off by {worst:.3g}"
    return worst


def training_equals_steps(seed, backend, tolerance=1e-9):
    """One epoch of fit, and the same steps driven from Python, end with the same parameters."""
    results = []
    for native in (True, False):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng)
        loss = graph.heads[0].scalar_sum() * 1e-2
        used = set(loss._ancestors())
        feed = {}
        for node, value in graph.inputs.items():
            if node in used and isinstance(node, wyrm.BagInputNode):
                lists = value.to_lists() * 6
                feed[node] = [bag[: int(rng.integers(4))] for bag in lists]
            elif node in used:
                kind = rng.integers(0, value.max() + 1, (6, *value.shape)) if value.dtype == np.int64 else None
                feed[node] = rng.uniform(-1, 1, (6, *value.shape)) if kind is None else kind
        parameters = loss.parameters()
        if not feed or not loss.needs_gradient:
            return 0.0
        optimizer = wyrm.optim.SGD(0.1, parameters, l2=0.01)
        if native:
            wyrm.fit(loss, feed, optimizer, shuffle=False, backend=backend)
        else:
            for example in range(6):
                for node, values in feed.items():
                    rows = node.shape[0]
                    bags = isinstance(node, wyrm.BagInputNode)
                    node.set_value(values[example * rows : (example + 1) * rows] if bags else values[example])
                loss.forward(backend="reference")
                loss.backward(1.0)
                optimizer.step()
        results.append([parameter.value.copy() for parameter in graph.parameters])
    worst = max(deviation(a, e) for a, e in zip(*results, strict=True))
    assert worst <= tolerance, f"seed {seed}: fit on {backend} is off by {worst:.3g}"
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name = wyrm.get_backend(options.backend).name
    seeds = range(options.seed, options.seed + options.graphs)
    worst = max(against_reference(seed, name) for seed in seeds)
    print(f"{len(seeds)} random graphs: {name} agrees with the reference in float64, worst error {worst:.2g}")
    worst = max(training_equals_steps(seed, name) for seed in seeds)
    print(f"{len(seeds)} random graphs: fit on {name} equals steps on the reference, worst error {worst:.2g}")
    worst = max(against_differences(seed) for seed in seeds)
    print(f"{len(seeds)} random graphs: the reference agrees with finite differences, worst error {worst:.2g}")


if __name__ == "__main__":
    main()
