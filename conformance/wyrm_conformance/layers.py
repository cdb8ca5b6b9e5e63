"""Layers and losses, put to the same test as ops: values against the reference, gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

import wyrm
from wyrm import nn
from wyrm.nn import losses
from wyrm.program import Shape
from wyrm_conformance.cases import LENGTHS, Case
from wyrm_conformance.check import check
from wyrm_conformance.gradients import check_op

__all__ = ["LAYERS", "LOSSES"]

Parameters = list[wyrm.ParameterNode]


def _length(rng: np.random.Generator) -> int:
    return int(rng.choice(LENGTHS))


def _short(rng: np.random.Generator) -> int:
    """A length for weights that are differentiated element by element, and multiply: still around vectors of 4 and 8."""
    return int(rng.choice(LENGTHS[:9]))


def _gated(gates: int, rows: int) -> Callable[[np.random.Generator], list[Shape]]:
    """Shapes of inputs, weights and biases; ``rows`` says whether the hidden state has rows of the same weights."""

    def shapes(rng: np.random.Generator) -> list[Shape]:
        batch, width, hidden = int(rng.integers(1, 4)), _short(rng), _short(rng)
        if rows:
            return [(batch, width), (hidden + width, gates * hidden), (1, gates * hidden)]
        return [(batch, width), (width, 3 * hidden), (hidden, 3 * hidden), (1, 3 * hidden), (1, 3 * hidden)]

    return shapes


def _sequence(p: Parameters) -> list[wyrm.Node]:
    return [p[0], p[0] * 0.5, -p[0]]


def _lstm(rng: np.random.Generator, p: Parameters, coupled: bool) -> wyrm.Node:
    hidden = p[2].shape[1] // 4
    parameters = nn.lstm.Parameters(p[0].shape[1], hidden, dtype=p[0].dtype)
    parameters.weights, parameters.biases = p[1] * 0.5, p[2]  # type: ignore[assignment]
    layer = nn.lstm.Layer(nn.lstm.Cell(parameters, coupled=coupled))
    layer.set_state(*rng.uniform(-1, 1, (2, p[0].shape[0], hidden)))
    return layer.forward(_sequence(p))[-1]


def _gru(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    layer = nn.GRU(p[0].shape[1], p[2].shape[0], dtype=p[0].dtype)
    layer.input_weights, layer.hidden_weights, layer.input_biases, layer.hidden_biases = p[1:]
    return layer.forward(_sequence(p))[-1]


def _ewma(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    layer = nn.EWMA(p[0].shape[1], dtype=p[0].dtype)
    layer.alpha = p[1]
    return layer.forward(_sequence(p))[-1]


def _linear(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    layer = nn.Linear(*p[1].shape, dtype=p[0].dtype)
    layer.weights, layer.biases = p[1:]
    return layer.forward(p[0])


def _shapes_of_linear(rng: np.random.Generator) -> list[Shape]:
    batch, width, out = _length(rng), _length(rng), _length(rng)
    return [(batch, width), (width, out), (1, out)]


def _shapes_of_average(rng: np.random.Generator) -> list[Shape]:
    cols = _length(rng)
    return [(_length(rng), cols), (1, cols)]


#: A case for each layer.
LAYERS: dict[str, Case] = {
    "linear": Case(_shapes_of_linear, _linear),
    "lstm": Case(_gated(4, True), partial(_lstm, coupled=False)),
    "lstm, coupled": Case(_gated(4, True), partial(_lstm, coupled=True)),
    "gru": Case(_gated(3, False), _gru),
    "ewma": Case(_shapes_of_average, _ewma),
}


def _pair(rng: np.random.Generator) -> list[Shape]:
    shape = _length(rng), _length(rng)
    return [shape, shape]


def _many_classes(rng: np.random.Generator) -> list[Shape]:
    """Always more columns than a vector has lanes, and than two have: how many there are must not be left to chance."""
    shape = _length(rng), int(rng.integers(33, 50))
    return [shape, shape]


def _column(rng: np.random.Generator) -> list[Shape]:
    shape = _length(rng), 1
    return [shape, shape]


def _weights(rng: np.random.Generator, p: Parameters) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return rng.uniform(0.5, 2, (p[0].shape[0], 1))


def _apart(a: wyrm.Node) -> wyrm.Node:
    """Half a step away from where the other operand's elements can be, so that no finite difference steps over a kink."""
    return a + 0.0005


def _cross_entropy(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    rows, cols = p[0].shape
    classes = wyrm.IndexInputNode(rows, rng.integers(0, cols, rows))
    return losses.sparse_categorical_crossentropy(p[0] + p[1], classes, weights=_weights(rng, p), reduction="none")


def _hinge(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    return losses.hinge(_apart(p[0] - p[1]), rng.choice([-1.0, 1.0], p[0].shape), weights=_weights(rng, p))


def _warp(rng: np.random.Generator, p: Parameters) -> wyrm.Node:
    sample = wyrm.SampledIndexNode(p[1].shape[0], seed=int(rng.integers(1000)))
    row = p[0].index(wyrm.IndexInputNode(1, int(rng.integers(p[0].shape[0])))) * 0.25
    positive, negative = row.vector_dot(p[0][:1]), _apart(row.vector_dot(p[1].index(sample)))
    return losses.warp(positive, negative, sample, tries=4, by_rank=bool(rng.random() < 0.5), weights=1.5)


#: A case for each loss; both operands are differentiated.
LOSSES: dict[str, Case] = {
    "sparse_categorical_crossentropy": Case(_many_classes, _cross_entropy),
    "binary_cross_entropy": Case(
        _pair, lambda rng, p: losses.binary_cross_entropy(p[0], p[1].sigmoid(), weights=_weights(rng, p), reduction="none")
    ),
    "squared": Case(_pair, lambda rng, p: losses.squared(p[0], p[1], weights=_weights(rng, p), reduction="mean")),
    "absolute": Case(_pair, lambda rng, p: losses.absolute(_apart(p[0]), p[1], weights=_weights(rng, p))),
    "huber": Case(_pair, lambda rng, p: losses.huber(p[0], p[1], delta=0.5005, weights=_weights(rng, p), reduction="none")),
    "hinge": Case(_pair, _hinge),
    "warp": Case(_pair, _warp),
    "bpr": Case(_column, lambda rng, p: losses.bpr(p[0], p[1], weights=_weights(rng, p), reduction="none")),
}

for _kind, _cases in (("layers", LAYERS), ("losses", LOSSES)):
    for _name, _case in _cases.items():
        check(f"{_kind}/{_name}", "core", f"the value and derivative of {_name} are right at any shape")(
            partial(check_op, name=_name, case=_case, trials=6)
        )
