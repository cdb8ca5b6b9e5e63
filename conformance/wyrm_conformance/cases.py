"""How each op of the op table is put to the test: which operands it takes, and how it is written down."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import wyrm
from wyrm.program import Shape

__all__ = ["CASES", "Case"]

#: Lengths around the widths of vector registers.
LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)


class Case(NamedTuple):
    """An op on operands of random shapes.

    Attributes
    ----------
    shapes
        Draws the shapes of the parameters that the op is applied to.
    build
        The op on these parameters; may draw indices and the like.
    differentiable
        Whether the gradient should be that of the value.
    """

    shapes: Callable[[np.random.Generator], list[Shape]]
    build: Callable[[np.random.Generator, list[wyrm.ParameterNode]], wyrm.Node]
    differentiable: bool = True


def _length(rng: np.random.Generator) -> int:
    return int(rng.choice(LENGTHS))


def _one(rng: np.random.Generator) -> list[Shape]:
    return [(_length(rng), _length(rng))]


def _two_that_broadcast(rng: np.random.Generator) -> list[Shape]:
    shape = _length(rng), _length(rng)
    other = [length if rng.random() < 0.6 else 1 for length in shape]
    pair: list[Shape] = [shape, (other[0], other[1])]
    return pair if rng.random() < 0.5 else pair[::-1]


def _two_for_a_product(rng: np.random.Generator) -> list[Shape]:
    depth = _length(rng)
    return [(_length(rng), depth), (depth, _length(rng))]


def _gates_and_cell(rng: np.random.Generator) -> list[Shape]:
    rows, width = int(rng.integers(1, 5)), _length(rng)
    return [(rows, 4 * width), (rows, width)]


def _index(rng: np.random.Generator, operands: list[wyrm.ParameterNode]) -> wyrm.Node:
    table = operands[0]
    count = _length(rng)
    return table.index(wyrm.IndexInputNode(count, rng.integers(0, table.shape[0], count)))


def _bag(rng: np.random.Generator, table: wyrm.ParameterNode) -> wyrm.BagInputNode:
    rows = int(rng.integers(1, 5))
    lengths = rng.integers(0, 6, rows)  # some are empty
    values = rng.integers(0, table.shape[0], lengths.sum())
    weights = rng.uniform(0.5, 2, len(values)) if rng.random() < 0.5 else None
    return wyrm.BagInputNode(rows, wyrm.Bags(values, np.concatenate([[0], np.cumsum(lengths)]), weights))


def _index_slice(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    index = wyrm.IndexInputNode(4, rng.integers(0, p[0].shape[0], 4))
    return p[0].index(index[1:]) * p[0].index(index[:-1])


def _pick(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    rows, cols = p[0].shape
    return p[0].pick(wyrm.IndexInputNode(rows, rng.integers(0, cols, rows)))


def _sample(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    counts = rng.integers(0, 5, p[0].shape[0])
    rows = wyrm.Frequencies(counts) if counts.any() and rng.random() < 0.5 else len(counts)
    return p[0].index(wyrm.SampledIndexNode(rows, int(rng.integers(1, 6)), seed=int(rng.integers(1000))))


def _redraw(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    """A row is drawn until its sum is above a number, and multiplied with what is outside of the draws."""
    sample = wyrm.SampledIndexNode(p[0].shape[0], seed=int(rng.integers(1000)))
    row = p[0].index(sample)
    until = _off_the_grid(row.sum() - round(float(rng.uniform(0, 3)), 3))
    return until.redraw(sample, tries=int(rng.integers(1, 8))) * p[0][:1, :1] + row.square().mean()


def _rank(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    sample = wyrm.SampledIndexNode(p[0].shape[0], seed=int(rng.integers(1000)))
    redrawn = _off_the_grid(p[0].index(sample).mean() - 0.5).redraw(sample, tries=5)
    return redrawn.rank() * p[0][:1, :1]


def _dropout(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    return p[0].dropout(0.4, seed=int(rng.integers(1000)))


def _stack(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    return wyrm.stack([p[0], p[0].square(), p[0]], axis=int(rng.integers(2)))


def _slice(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    rows, cols = (sorted(int(n) for n in rng.integers(0, length + 1, 2)) for length in p[0].shape)
    return p[0][rows[0] : rows[1], cols[0] : cols[1]].square() + p[0][:1, :1]


def _reshape(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    return p[0].reshape(1, -1) if rng.random() < 0.5 else p[0].reshape(p[0].shape[1], p[0].shape[0])


def _where(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    shape = (p[0] + p[1]).shape
    return wyrm.where(rng.random(shape) < 0.5, p[0], p[1])


def _comparison(compare: Callable[[wyrm.Node, wyrm.Node], wyrm.Node]) -> Case:
    """A mask, and what it is made of; every other element is compared with itself."""

    def build(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
        other = wyrm.where(rng.random(p[0].shape) < 0.5, p[0], p[0].detach() + rng.choice([-0.5, 0.5], p[0].shape))
        return compare(p[0], other) * p[0]

    return Case(_one, build)


def _clip(rng: np.random.Generator, p: list[wyrm.ParameterNode]) -> wyrm.Node:
    """Between two bounds, either of which may be the larger one."""
    return _off_the_grid(p[0]).clip(p[1].square() - 0.75, p[1] + 0.501)


def _off_the_grid(a: wyrm.Node) -> wyrm.Node:
    """Operands are in steps of a thousandth; half a step away, no finite difference steps over a kink."""
    return a + 0.0005


def _axis(rng: np.random.Generator) -> int | None:
    axes: list[int | None] = [None, 0, 1]
    return axes[int(rng.integers(3))]


def _positive(a: wyrm.Node) -> wyrm.Node:
    return a.square() + 0.25


#: A case for every op of the op table, by the op's name.
CASES: dict[str, Case] = {
    "add": Case(_two_that_broadcast, lambda rng, p: p[0] + p[1]),
    "subtract": Case(_two_that_broadcast, lambda rng, p: p[0] - p[1]),
    "multiply": Case(_two_that_broadcast, lambda rng, p: p[0] * p[1]),
    "divide": Case(_two_that_broadcast, lambda rng, p: p[0] / _positive(p[1])),
    "power": Case(_two_that_broadcast, lambda rng, p: _positive(p[0]) ** p[1]),
    "greater": _comparison(operator.gt),
    "less": _comparison(operator.lt),
    "greater_equal": _comparison(operator.ge),
    "less_equal": _comparison(operator.le),
    "equal": _comparison(operator.eq),
    "not_equal": _comparison(operator.ne),
    "neg": Case(_one, lambda rng, p: -p[0]),
    "square": Case(_one, lambda rng, p: p[0].square()),
    "exp": Case(_one, lambda rng, p: p[0].exp()),
    "ln": Case(_one, lambda rng, p: _positive(p[0]).ln()),
    "sqrt": Case(_one, lambda rng, p: _positive(p[0]).sqrt()),
    "abs": Case(_one, lambda rng, p: abs(_off_the_grid(p[0]))),
    "tanh": Case(_one, lambda rng, p: p[0].tanh()),
    "sigmoid": Case(_one, lambda rng, p: p[0].sigmoid()),
    "log_sigmoid": Case(_one, lambda rng, p: p[0].log_sigmoid()),
    "softplus": Case(_one, lambda rng, p: p[0].softplus()),
    "maximum": Case(_two_that_broadcast, lambda rng, p: p[0].maximum(_off_the_grid(p[1]))),
    "minimum": Case(_two_that_broadcast, lambda rng, p: p[0].minimum(_off_the_grid(p[1]))),
    "relu": Case(_one, lambda rng, p: _off_the_grid(p[0]).relu()),
    "clip": Case(_two_that_broadcast, _clip),
    "where": Case(_two_that_broadcast, _where),
    "dot": Case(_two_for_a_product, lambda rng, p: p[0].dot(p[1])),
    "vector_dot": Case(_two_that_broadcast, lambda rng, p: p[0].vector_dot(p[1])),
    "sum": Case(_one, lambda rng, p: p[0].sum(_axis(rng))),
    "mean": Case(_one, lambda rng, p: p[0].mean(_axis(rng))),
    "logsumexp": Case(_one, lambda rng, p: p[0].logsumexp()),
    "softmax": Case(_one, lambda rng, p: p[0].softmax()),
    "log_softmax": Case(_one, lambda rng, p: p[0].log_softmax()),
    "t": Case(_one, lambda rng, p: p[0].t()),
    "reshape": Case(_one, _reshape),
    "slice": Case(_one, _slice),
    "stack": Case(_one, _stack),
    "index": Case(_one, _index),
    "index_slice": Case(_one, _index_slice),
    "index_sum": Case(_one, lambda rng, p: p[0].index_sum(_bag(rng, p[0]))),
    "index_mean": Case(_one, lambda rng, p: p[0].index_mean(_bag(rng, p[0]))),
    "pick": Case(_one, _pick),
    "lstm_cell": Case(_gates_and_cell, lambda rng, p: p[0].lstm_cell(p[1])),
    "sample": Case(_one, _sample),
    "redraw": Case(_one, _redraw),
    "rank": Case(_one, _rank),
    "dropout_mask": Case(_one, _dropout),
    "detach": Case(_one, lambda rng, p: p[0].detach() * p[0], differentiable=False),
}
