"""Models: random ones, whose values, gradients and training are compared with an independent library, autograd."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import wyrm
from tests.fuzz.cases import Line, Unclear

try:
    import autograd
    import autograd.numpy as anp
    from autograd.tracer import getval
except ImportError:  # an optional group of the environment; see `missing`
    autograd = anp = getval = None

NAME = "models"
BACKENDS = tuple(status.name for status in wyrm.backends() if status.state != "broken")


def missing() -> str | None:
    """Why it cannot run."""
    return None if autograd else "autograd is not installed: pip install --group fuzz"


# --- the same op in both ---------------------------------------------------------------------------------------


def _sigmoid(a: Any) -> Any:
    return 0.5 * (1.0 + anp.tanh(0.5 * a))


def _logsumexp(a: Any) -> Any:
    shift = anp.max(getval(a), axis=1, keepdims=True)
    return anp.log(anp.sum(anp.exp(a - shift), axis=1, keepdims=True)) + shift


def _lstm(gates: Any, cell: Any) -> Any:
    n = cell.shape[1]
    if gates.shape != (cell.shape[0], 4 * n):
        raise ValueError("another shape")
    f, i, o = (_sigmoid(gates[:, k * n : (k + 1) * n]) for k in range(3))
    new = f * cell + i * anp.tanh(gates[:, 3 * n :])
    return anp.concatenate([o * anp.tanh(new), new], axis=1)


def _pooled(table: Any, bags: Any, mean: bool) -> Any:
    rows = []
    for bag, weights in bags:
        total = sum(weights) if mean and len(bag) else 1.0
        rows.append(anp.dot(np.array(weights).reshape(1, -1) / total, table[bag]) if len(bag) else table[:1] * 0.0)
    return anp.concatenate(rows, axis=0)


def _chosen(condition: Any, a: Any, b: Any) -> Any:
    return condition * a + (1.0 - condition) * b  # autograd's `where` has no derivative if shapes differ


def _sum(a: Any, axis: Any = None) -> Any:
    return anp.sum(a, axis=axis, keepdims=True)


Op = tuple[Callable[..., Any], Callable[..., Any]]
#: Of one node: Wyrm's, and autograd's.
UNARY: dict[str, Op] = {
    "neg": (lambda a: -a, lambda a: -a),
    "square": (lambda a: (a * 0.5).square(), lambda a: (a * 0.5) ** 2),
    "exp": (lambda a: a.tanh().exp(), lambda a: anp.exp(anp.tanh(a))),
    "ln": (lambda a: (a.square() + 0.5).ln(), lambda a: anp.log(a**2 + 0.5)),
    "sqrt": (lambda a: (a.square() + 0.5).sqrt(), lambda a: anp.sqrt(a**2 + 0.5)),
    "tanh": (lambda a: a.tanh(), lambda a: anp.tanh(a)),
    "sigmoid": (lambda a: a.sigmoid(), _sigmoid),
    "softplus": (lambda a: a.softplus() * 0.5, lambda a: anp.logaddexp(0.0, a) * 0.5),
    "log_sigmoid": (lambda a: a.log_sigmoid() * 0.5, lambda a: -anp.logaddexp(0.0, -a) * 0.5),
    "power": (lambda a: (a.square() + 0.5) ** -0.5, lambda a: (a**2 + 0.5) ** -0.5),
    "cube": (lambda a: (a * 0.5) ** 3, lambda a: (a * 0.5) ** 3),
    "power of 2": (lambda a: 2.0 ** a.tanh(), lambda a: 2.0 ** anp.tanh(a)),
    "abs": (lambda a: (a + 0.017).abs(), lambda a: anp.abs(a + 0.017)),
    "relu": (lambda a: (a + 0.011).relu(), lambda a: anp.maximum(a + 0.011, 0.0)),
    "clip": (lambda a: a.clip(-0.413, 0.617), lambda a: anp.minimum(anp.maximum(a, -0.413), 0.617)),
    "t": (lambda a: a.t(), lambda a: a.T),
    "sum": (lambda a: a.scalar_sum(), _sum),
    "sum of columns": (lambda a: a.sum(axis=0), lambda a: _sum(a, 0)),
    "sum of rows": (lambda a: a.sum(axis=1), lambda a: _sum(a, 1)),
    "mean": (lambda a: a.mean(), lambda a: _sum(a) / a.size),
    "mean of rows": (lambda a: a.mean(axis=1), lambda a: _sum(a, 1) / a.shape[1]),
    "softmax": (lambda a: a.softmax(), lambda a: anp.exp(a - _logsumexp(a))),
    "log_softmax": (lambda a: a.log_softmax() * 0.3, lambda a: (a - _logsumexp(a)) * 0.3),
    "logsumexp": (lambda a: a.logsumexp() * 0.5, lambda a: _logsumexp(a) * 0.5),
    "reshape": (lambda a: a.reshape(a.shape[1], a.shape[0]), lambda a: anp.reshape(a, (a.shape[1], a.shape[0]))),
    "column": (lambda a: a.reshape(-1, 1), lambda a: anp.reshape(a, (-1, 1))),
    "half": (lambda a: a[: (a.shape[0] + 1) // 2, a.shape[1] // 2 :], lambda a: a[: (a.shape[0] + 1) // 2, a.shape[1] // 2 :]),
    "last": (lambda a: a[-1:], lambda a: a[-1:]),
    "detach": (lambda a: a.detach() * 0.5, lambda a: getval(a) * 0.5),
    "affine": (lambda a: a * 0.7 - 0.2, lambda a: a * 0.7 - 0.2),
    "inverse": (lambda a: 1.0 / (a.square() + 0.5), lambda a: 1.0 / (a**2 + 0.5)),
}
#: Of two.
BINARY: dict[str, Op] = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "divide": (lambda a, b: a / (b.square() + 1.0), lambda a, b: a / (b**2 + 1.0)),
    "dot": (lambda a, b: a.dot(b) * 0.3, lambda a, b: anp.dot(a, b) * 0.3),
    "dot of transposed": (lambda a, b: a.t().dot(b) * 0.3, lambda a, b: anp.dot(a.T, b) * 0.3),
    "dot with transposed": (lambda a, b: a.dot(b.t()) * 0.3, lambda a, b: anp.dot(a, b.T) * 0.3),
    "vector_dot": (lambda a, b: a.vector_dot(b) * 0.3, lambda a, b: _sum(a * b, 1) * 0.3),
    "stack": (lambda a, b: a.stack(b), lambda a, b: anp.concatenate([a, b], axis=0)),
    "stack beside": (lambda a, b: wyrm.stack([a, b, a], axis=1), lambda a, b: anp.concatenate([a, b, a], axis=1)),
    "lstm_cell": (
        lambda a, b: wyrm.stack([a, b, b, a], axis=1).lstm_cell(a),
        lambda a, b: _lstm(anp.concatenate([a, b, b, a], axis=1), a),
    ),
    "maximum": (lambda a, b: a.maximum(b + 0.013), lambda a, b: anp.maximum(a, b + 0.013)),
    "minimum": (lambda a, b: a.minimum(b * 0.7 - 0.2), lambda a, b: anp.minimum(a, b * 0.7 - 0.2)),
    "where": (
        lambda a, b: wyrm.where(a > b + 0.019, a, b * 0.5),
        lambda a, b: _chosen(getval(a) > getval(b) + 0.019, a, b * 0.5),
    ),
    "hinge": (lambda a, b: (1.0 - a * b).relu(), lambda a, b: anp.maximum(1.0 - a * b, 0.0)),
}


class Graph:
    """A model that was drawn from a seed.

    Parameters
    ----------
    seed, ops
        By which it is drawn, and how many ops it is tried to have.
    dtype
        Of Wyrm's parameters.
    """

    def __init__(self, seed: int, ops: int, dtype: str = "float64") -> None:
        rng = np.random.default_rng(seed)
        width, rows = int(rng.choice([1, 2, 3, 5, 8, 9])), int(rng.integers(2, 7))
        self.shapes = [(rows, width), (width, width), (1, width), (1, 1)]
        self.values = [rng.uniform(-1, 1, shape).astype(dtype).astype(float) for shape in self.shapes]
        count, examples = int(rng.choice([1, 1, 2, 4])), 4
        self.count, self.width, self.dtype = count, width, dtype
        self.data = {
            "x": rng.uniform(-1, 1, (examples, count, width)).astype(dtype).astype(float),
            "index": rng.integers(0, rows, (examples, count)),
            "bag": [[self._bag(rng, rows) for _ in range(count)] for _ in range(examples)],
            "pick": rng.integers(0, width, (examples, count)),
        }
        self.plan: list[tuple[str, tuple[int, ...]]] = []
        self.mean, self.weighted = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
        if not self.weighted:
            self.data["bag"] = [[(bag, [1.0] * len(bag)) for bag, _ in bags] for bags in self.data["bag"]]
        shapes = [node.shape for node in self._leaves(self.values, 0)]
        nodes = self._leaves(self.values, 0)
        for _ in range(ops):
            name = str(rng.choice([*UNARY, *BINARY, "add", "multiply", "dot"]))
            operands = tuple(int(len(nodes) * rng.beta(2, 1)) for _ in range(2 if name in BINARY else 1))
            try:
                with np.errstate(all="ignore"):
                    made = (UNARY | BINARY)[name][1](*[nodes[n] for n in operands])
            except (ValueError, IndexError):
                continue
            if made.ndim == 2 and made.size <= 400 and np.abs(made).max() < 50:
                self.plan.append((name, operands))
                nodes.append(made)
                shapes.append(made.shape)
        self.head = len(nodes) - 1

    @staticmethod
    def _bag(rng: np.random.Generator, rows: int) -> tuple[list[int], list[float]]:
        bag = rng.integers(0, rows, int(rng.integers(0, 4))).tolist()
        return bag, rng.uniform(0.1, 2.0, len(bag)).tolist()

    def _leaves(self, values: Any, example: int) -> list[Any]:
        """The parameters, and what depends on an example, in autograd."""
        rows = np.arange(self.count)
        looked_up = values[0][self.data["index"][example]]
        pooled = _pooled(values[0], self.data["bag"][example], self.mean)
        picked = anp.reshape(pooled[rows, self.data["pick"][example]], (-1, 1))
        return [*values, self.data["x"][example], looked_up, pooled, picked]

    def expected(self, values: Any, example: int) -> Any:
        """The last node, computed by autograd."""
        nodes = self._leaves(values, example)
        for name, operands in self.plan:
            nodes.append((UNARY | BINARY)[name][1](*[nodes[n] for n in operands]))
        return nodes[self.head]

    def build(self) -> tuple[list[wyrm.ParameterNode], dict[str, Any], wyrm.Node]:
        """Parameters, inputs and the last node."""
        parameters = [wyrm.ParameterNode(value, dtype=self.dtype) for value in self.values]
        x = wyrm.InputNode((self.count, self.width), dtype=self.dtype)
        index, pick, bag = wyrm.IndexInputNode(self.count), wyrm.IndexInputNode(self.count), wyrm.BagInputNode(self.count)
        pooled = parameters[0].index_mean(bag) if self.mean else parameters[0].index_sum(bag)
        nodes = [*parameters, x, parameters[0].index(index), pooled, pooled.pick(pick)]
        for name, operands in self.plan:
            nodes.append((UNARY | BINARY)[name][0](*[nodes[n] for n in operands]))
        return parameters, {"x": x, "index": index, "bag": bag, "pick": pick}, nodes[self.head]

    def bags(self, examples: list[int]) -> wyrm.Bags:
        """Those of some examples."""
        bags = [bag for example in examples for bag in self.data["bag"][example]]
        return wyrm.Bags.from_lists([bag for bag, _ in bags], [weights for _, weights in bags] if self.weighted else None)

    def loss(self, values: Any, example: int) -> Any:
        """The mean of the squares, in autograd."""
        head = self.expected(values, example)
        return _sum(head**2)[0, 0] / head.size

    def gradients(self, values: Any, example: int) -> Any:
        """Of the loss, by autograd; unclear beside a kink."""
        found = autograd.grad(self.loss)(values, example)
        moved = [value + 1e-7 * np.cos(np.arange(value.size)).reshape(value.shape) for value in values]
        if any(
            np.abs(a - b).max() > 1e-3 * max(1.0, np.abs(a).max())
            for a, b in zip(found, autograd.grad(self.loss)(moved, example), strict=True)
        ):
            raise Unclear
        return found


def _near(actual: Any, expected: Any, dtype: str) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=(1e-9 if dtype == "float64" else 1e-3) * scale)


def passes(graph: Graph, backend: str) -> None:
    """Values and gradients of the examples, one after the other."""
    parameters, inputs, head = graph.build()
    loss = head.square().mean()
    for example in range(2):
        for name, node in inputs.items():
            node.set_value(graph.bags([example]) if name == "bag" else graph.data[name][example])
        loss.forward(backend=backend)
        _near(loss.value, graph.loss(graph.values, example), graph.dtype)
        head.forward(backend=backend)
        _near(head.value, graph.expected(graph.values, example), graph.dtype)
        if not loss.needs_gradient:
            return
        expected = graph.gradients(graph.values, example)
        loss.forward(backend=backend)
        loss.backward(1.0)
        for parameter, gradient in zip(parameters, expected, strict=True):
            _near(parameter.gradient.to_dense(), gradient, graph.dtype)
            parameter.zero_gradient()


def training(graph: Graph, backend: str, optimizer: str, batch_size: int = 1, **options: Any) -> None:
    """Parameters after an epoch of fit, and evaluation then."""
    parameters, inputs, head = graph.build()
    loss = head.square().mean()
    used = set(loss._ancestors())
    feed = {
        node: graph.bags([0, 1, 2, 3]) if name == "bag" else graph.data[name] for name, node in inputs.items() if node in used
    }
    if not loss.needs_gradient or not feed:
        return
    values = [value.copy() for value in graph.values]
    state = [np.zeros_like(value) for value in values], [np.zeros_like(value) for value in values]
    for step, first in enumerate(range(0, 4, batch_size), 1):
        each = [graph.gradients(values, example) for example in range(first, min(first + batch_size, 4))]
        for n, parts in enumerate(zip(*each, strict=True)):
            values[n] = values[n] + _step(optimizer, sum(parts) / len(parts), state[0][n], state[1][n], step)
    made = OPTIMIZERS[optimizer](loss.parameters())
    wyrm.fit(loss, feed, made, shuffle=False, batch_size=batch_size, backend=backend, num_threads=1, **options)
    for parameter, value in zip(parameters, values, strict=True):
        _near(parameter.value, value, graph.dtype)
    found = wyrm.evaluate(loss, feed, backend=backend)[:, 0, 0]
    _near(found, np.array([graph.loss(values, example) for example in range(4)]), graph.dtype)


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda parameters: wyrm.optim.SGD(0.01, parameters),
    "momentum": lambda parameters: wyrm.optim.SGD(0.01, parameters, momentum=0.9),
    "adagrad": lambda parameters: wyrm.optim.Adagrad(0.01, parameters, eps=0.1),
}


def _step(optimizer: str, gradient: Any, state: Any, other: Any, step: int) -> Any:
    """What an optimizer adds, by the formulas of the papers; the states are changed."""
    if optimizer == "sgd":
        return -0.01 * gradient
    if optimizer == "momentum":
        state[...] = 0.9 * state + gradient
        return -0.01 * state
    state += gradient**2
    return -0.01 * gradient / (np.sqrt(state) + 0.1)


def write(rng: np.random.Generator) -> list[Line]:
    """A case: a model, its passes and its training on a backend."""
    backend = str(rng.choice(BACKENDS, p=_shares()))
    dtype = "float64" if rng.random() < 0.8 else "float32"
    lines = [Line("setup", f"graph = Graph({int(rng.integers(2**31))}, {int(rng.integers(1, 14))}, {dtype!r})")]
    lines.append(Line("check", f"passes(graph, {backend!r})"))
    if dtype == "float64":
        optimizer, batch = str(rng.choice(list(OPTIMIZERS))), int(rng.choice([1, 1, 2, 3]))
        lines.append(Line("check", f"training(graph, {backend!r}, {optimizer!r}, batch_size={batch})"))
    return lines


def _shares() -> list[float]:
    """How often each backend is taken: one that compiles is slow at first."""
    weights = [0.1 if name == "numba" else 1.0 for name in BACKENDS]
    return [weight / sum(weights) for weight in weights]


@contextlib.contextmanager
def planted() -> Iterator[None]:
    """The derivative of tanh is off by a hundredth."""
    from wyrm.frontend.op import OPS

    op = OPS["tanh"]
    (vjp,) = kept = op.vjps
    object.__setattr__(op, "vjps", (lambda k, g, y, a: vjp(k, k.multiply(g, k.literal(1.01)), y, a),))
    try:
        yield
    finally:
        object.__setattr__(op, "vjps", kept)
