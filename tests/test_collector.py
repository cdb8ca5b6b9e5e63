"""The garbage collector, which is paused while programs are made: what they leave is old to it, and no cycles."""

import gc

import numpy as np
import pytest

import wyrm
from wyrm.frontend import structure
from wyrm.frontend.lowering import lower as lowering
from wyrm.frontend.lowering.value import Value
from wyrm.training.programs import uncollected


@pytest.fixture
def paused():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def number_of_values():
    return sum(type(thing) is Value for thing in gc.get_objects())


def test_the_values_of_a_program_with_draws_are_gone_when_it_is_made(paused):
    table = wyrm.ParameterNode(np.ones((43, 3)))
    made, before = len(lowering._CACHE), number_of_values()
    index, sample = wyrm.IndexInputNode(), wyrm.SampledIndexNode(43)
    loss = table.index(index).vector_dot(table.index(sample)).redraw(sample, 7).square()
    wyrm.fit(loss, {index: [1, 2]}, wyrm.optim.SGD(0.1, [table]), seed=0, backend="reference")
    assert len(lowering._CACHE) > made
    assert number_of_values() == before


def test_what_is_made_meanwhile_is_old_afterwards():
    with uncollected():
        assert not gc.isenabled()
        made = [object()]
    assert gc.isenabled()
    assert any(thing is made for thing in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_stays_so():
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with uncollected():
            made = [object()]
        assert 0 < gc.get_freeze_count() <= frozen
        assert any(thing is made for thing in gc.get_objects())
    finally:
        gc.unfreeze()


def test_where_the_collector_is_off_it_stays_off(paused):
    with uncollected():
        pass
    assert not gc.isenabled()


def test_parameters_that_end_while_the_store_of_structures_is_emptied(monkeypatch):
    """The collector may run whenever something is made, also as structures are gone through."""
    x = wyrm.InputNode((1, 1), 1.0)
    gc.collect()
    gc.disable()
    before = gc.get_threshold()
    try:
        for _ in range(20):
            cycle = [x * wyrm.ParameterNode(1.0)]
            for _ in range(40):
                cycle.append(cycle[-1].square())
            cycle.append(cycle)
        del cycle
        monkeypatch.setattr(structure, "STORE_LIMIT", len(structure.STORE))
        gc.set_threshold(gc.get_count()[0] + 200)
        gc.enable()
        y = x.tanh()
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert len(structure.STORE) < 10
    y.forward()
    np.testing.assert_allclose(y.value, np.tanh(1.0), rtol=1e-6)
