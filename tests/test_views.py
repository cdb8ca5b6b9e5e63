"""Views, which are no calls of a program: what reads them reads what they view, also where nothing but a view does."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


@pytest.mark.parametrize("seen", [lambda table: table[1:3, :], lambda table: table[1:3, :] * 1.0, lambda table: table[2, 1]])
def test_rows_that_are_behind_are_caught_up_with_before_a_view_shows_them(backend, seen):
    table = wyrm.ParameterNode(np.arange(12.0).reshape(4, 3), dtype="float64")
    index = wyrm.IndexInputNode()
    loss = table.index(index).square().scalar_sum()
    optimizer = SGD(0.1, [table], momentum=0.5)
    for row in (1, 2, 0, 3, 0):
        index.set_value(row)
        loss.forward(backend=backend)
        loss.backward(1.0)
        optimizer.step()
    view = seen(table)
    view.forward(backend=backend)
    actual = view.value
    np.testing.assert_allclose(actual, table.value[1:3] if actual.size > 1 else table.value[2:3, 1:2], rtol=1e-12)


def test_nothing_changes_where_a_loss_is_not_finite_that_views_a_part_of_what_a_chain_computes(backend):
    weight, x = wyrm.ParameterNode([[1.0], [2.0]], dtype="float64"), wyrm.InputNode((2, 1), dtype="float64")
    loss = (weight - x).square()[1:, :]
    wyrm.fit(loss, {x: [[[7.0], [1.0]], [[8.0], [1.0]]]}, SGD(0.1, [weight]), seed=0, backend=backend)
    np.testing.assert_allclose(weight.value, [[1.0], [1 + 0.8**2]])
    with pytest.raises(wyrm.errors.NotFiniteError):
        wyrm.fit(loss, {x: [[[1.0], [np.inf]]]}, SGD(0.1, [weight]), seed=0, backend=backend)
    np.testing.assert_allclose(weight.value, [[1.0], [1 + 0.8**2]])


def test_the_end_of_a_draw_may_be_a_view(backend):
    """The whole of what it views is computed anew with each number."""
    table = wyrm.ParameterNode(np.where(np.arange(50)[:, None] % 10 == 7, [[1.0, 5.0]], [[-1.0, 3.0]]), dtype="float64")
    sample = wyrm.SampledIndexNode(50, seed=3)
    drawn = table.index(sample) * 2.0
    end = drawn[:, :1].redraw(sample, 64)
    loss = end * drawn[:, 1:]
    loss.forward(backend=backend)
    found = int(sample.value[0, 0])
    assert loss.value[0, 0] == pytest.approx(20.0 if found % 10 == 7 else -12.0)
