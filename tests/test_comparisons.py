"""Comparisons of nodes: masks in place of truth, and nodes that are still keys."""

import operator
import weakref

import numpy as np
import pytest

import wyrm

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.gt, operator.le, operator.ge]
NUMBERS = np.array([-np.inf, -3e38, -1.0, -1e-40, -0.0, 0.0, 1e-45, 1.0, 1.0000001, 3e38, np.inf, np.nan])
compare = pytest.mark.parametrize("compare", COMPARISONS, ids=lambda compare: compare.__name__)


@pytest.mark.variants
@compare
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_comparisons_are_those_of_numpy(backend, compare, dtype):
    """Every number with every other: as nodes, arrays and numbers, on either side."""
    a, b = (axis.astype(dtype) for axis in np.meshgrid(NUMBERS, NUMBERS))
    expected = compare(a, b)
    node, other = (wyrm.InputNode(a.shape, value, dtype=dtype) for value in (a, b))
    column = wyrm.InputNode((len(NUMBERS), 1), b[:, :1], dtype=dtype)
    for mask in (compare(node, other), compare(node, b), compare(a, other), compare(node, column)):
        assert mask.dtype == dtype and not mask.needs_gradient
        np.testing.assert_array_equal(mask.value, expected)
    np.testing.assert_array_equal(compare(node, 1).value, compare(a, 1))
    np.testing.assert_array_equal(compare(1.0, node).value, compare(1.0, a))
    np.testing.assert_array_equal(compare(np.float64(1), node).value, compare(1.0, a))


@compare
@pytest.mark.parametrize("rows", [1, 2])
def test_masks_in_training(backend, compare, rows):
    """A mask chooses; no gradient flows through it, and the chosen branch has the whole."""
    w, x = wyrm.ParameterNode(0.5), wyrm.InputNode((rows, 3))
    data = np.random.default_rng(1).integers(-1, 2, (20 // rows, rows, 3)).astype(float)
    loss = (wyrm.where(compare(x, w * 2.0 - 1.0), w * x, 0.5 * w) * (x < w)).scalar_sum()
    expected = 0.5
    for value in data:
        expected -= 0.01 * float((np.where(compare(value, expected * 2 - 1), value, 0.5) * (value < expected)).sum())
    wyrm.fit(loss, {x: data}, wyrm.optim.SGD(0.01, [w]), shuffle=False, num_threads=1)
    assert w.value[0, 0] == pytest.approx(expected, rel=1e-5)


def test_nothing_is_true_of_a_node():
    x = wyrm.InputNode((1, 1), 1.0, name="x")
    with pytest.raises(wyrm.DTypeError, match=r"equal \(1, 1\) is neither true nor false.*wyrm.where.*\.value.*`is`"):
        bool(x == 1.0)
    for ask in (lambda: not x, lambda: x and 1.0, lambda: 0.0 < x < 1.0, lambda: x in [wyrm.InputNode((1, 1))]):
        with pytest.raises(TypeError, match="neither true nor false"):
            ask()
    for other in (None, "x", object()):
        with pytest.raises(wyrm.DTypeError, match="equal with InputNode 'x'|equal with input 'x'"):
            x == other  # noqa: B015


def test_nodes_are_keys_by_identity():
    """Thousands of nodes that would compare as equal: dictionaries and sets tell them apart, and never compare them."""
    nodes = [wyrm.InputNode((1, 1), 0.0) for _ in range(3000)]
    numbers = {node: number for number, node in enumerate(nodes)}
    assert [numbers[node] for node in nodes] == list(range(3000)) and len(set(nodes)) == 3000
    w = wyrm.ParameterNode(1.0)
    twins = [wyrm.ParameterNode.shared(w.storage) for _ in range(100)]
    assert len({w, *twins}) == 101
    assert [p is w for p in (w * nodes[0] + w).parameters()] == [True]
    assert weakref.ref(w)() is w


def test_the_truth_of_data_is_asked_for_where_the_graph_is_run():
    """By index inputs, a mask is no thing that exists: said at once."""
    with pytest.raises(wyrm.DTypeError, match="equal"):
        wyrm.IndexInputNode(value=1) == 1  # noqa: B015
