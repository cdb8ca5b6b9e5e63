"""The bodies of draws: what is run again with each number, and nothing else; memory, programs and lifetimes."""

import gc
import weakref

import numpy as np
import pytest
from ranking import draws_in, numbers, program_of

import wyrm
from wyrm import philox
from wyrm.frontend.lowering import lower as lowering

pytestmark = pytest.mark.variants


def test_a_body_holds_what_lies_between_the_sample_and_its_node_alone():
    table, index = wyrm.ParameterNode(np.ones((10, 3))), wyrm.IndexInputNode(1, 1)
    sample = wyrm.SampledIndexNode(10)
    query = table.index(index).dropout(0.5).exp()
    row = table.index(sample)
    beside = row.tanh()  # depends on the draw, and is not needed to end it
    redrawn = row.vector_dot(query).redraw(sample, 5)
    loss = redrawn * query.sum() + beside.sum() + redrawn.rank()
    (draw,) = draws_in(loss)
    assert [i.kernel for i in draw.body] == ["gather", "multiply", "sum"]
    kernels = [i.kernel for i in program_of(loss).forward]
    assert kernels.index("dropout_mask") < kernels.index("exp") < kernels.index("draw") < kernels.index("tanh")
    (draw,) = draws_in(table.index(wyrm.SampledIndexNode(10)))
    assert draw.body == ()


def test_kernels_outside_of_a_body_run_once():
    from dataclasses import replace

    from wyrm.reference import ReferenceBackend

    calls = []

    def counting(name):
        kernel = ReferenceBackend.kernels[name]
        return lambda *operands, **options: (calls.append(name), kernel(*operands, **options))[1]

    kernels = {**ReferenceBackend.kernels, "exp": counting("exp"), "tanh": counting("tanh"), "sqrt": counting("sqrt")}
    backend = type("Counting", (ReferenceBackend,), {"kernels": kernels})()
    backend.declaration = replace(wyrm.get_backend("reference").declaration, name="counting")
    table, index, sample = wyrm.ParameterNode(np.ones((10, 3))), wyrm.IndexInputNode(1, 1), wyrm.SampledIndexNode(10)
    never = (table.index(sample).tanh() * table.index(index).exp()).sum() - 100.0
    loss = never.redraw(sample, 7) + table.index(sample).sqrt().sum()
    loss.forward(backend=backend)
    assert [calls.count(name) for name in ("exp", "tanh", "sqrt")] == [1, 7, 1]


def test_memory_is_not_used_again_while_a_body_reads_it(backend, rng):
    """What a body reads for the last time has to outlast the body, in runs, where memory is shared."""
    values = rng.standard_normal((20, 16))
    table, index = wyrm.ParameterNode(values, dtype="float64"), wyrm.IndexInputNode()
    sample = wyrm.SampledIndexNode(20, seed=6)
    query = table.index(index).exp()
    chain = table.index(sample) * query
    for _ in range(3):
        chain = chain.tanh() + 0.01
    node = (chain.sum() - 2.5).redraw(sample, 12)
    feed = np.arange(20)
    found = wyrm.evaluate(node, {index: feed})[:, 0, 0]
    expected, most = [], 0
    for example in feed:
        for made in range(12):
            number = philox.draw((6, 0, int(example)), made, 20)
            x = values[number] * np.exp(values[example])
            for _ in range(3):
                x = np.tanh(x) + 0.01
            if x.sum() > 2.5:
                break
        most = max(most, made)
        expected.append(x.sum() - 2.5)
    assert most > 3
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_draws_that_depend_on_draws(backend):
    """One sample's node depends on what another came to: that one is drawn first, whatever stands first in the program."""
    table = numbers(40, "float64")
    for swapped in (False, True):
        a, b = (wyrm.SampledIndexNode(40, seed=3) for _ in range(2))
        above = (table.index(b) - 25.0).redraw(b, 30)
        further = (table.index(a) - table.index(b)).redraw(a, 30)
        node = above + further if swapped else further + above
        node.forward()
        numbers_b = [philox.draw((3, 1, 0), n, 40) for n in range(30)]
        wanted = next(n for n in numbers_b if n > 25)
        assert b.value[0, 0] == wanted
        assert a.value[0, 0] == next(n for n in (philox.draw((3, 0, 0), m, 40) for m in range(30)) if n > wanted)
        node.backward(1.0)
        expected = np.zeros((40, 1))
        expected[a.value[0, 0]] += 1  # b's number is added once and subtracted once
        np.testing.assert_array_equal(table.gradient.to_dense(), expected)
        table.zero_gradient()
    a, b = (wyrm.SampledIndexNode(40, seed=3) for _ in range(2))
    rank = (table.index(b) + 1.0).redraw(b, 40).rank()
    (table.index(a) - rank * 0.9).redraw(a, 40).forward()
    assert rank.value[0, 0] == 39
    assert a.value[0, 0] == next(n for n in (philox.draw((3, 0, 0), m, 40) for m in range(40)) if n > 39 * 0.9)
    a, b = (wyrm.SampledIndexNode(40) for _ in range(2))
    difference = table.index(a) - table.index(b)
    with pytest.raises(wyrm.OptionError, match="depends on the other"):
        (difference.redraw(a, 3) + (-difference).redraw(b, 3)).forward()


def test_a_rebuilt_graph_needs_no_new_program(backend):
    table = numbers(40)
    frequencies = wyrm.Frequencies(np.arange(1, 41))
    sizes = []
    for _ in range(3):
        sample = wyrm.SampledIndexNode(frequencies, seed=1)
        loss = (table.index(sample) - 5.0).redraw(sample, 3)
        loss.forward()
        sizes.append(len(lowering._CACHE))
    assert sizes[0] == sizes[1] == sizes[2]


def test_graphs_with_draws_are_freed_without_the_collector():
    table = numbers(40)
    sample = wyrm.SampledIndexNode(40)
    loss = (table.index(sample) - 5.0).redraw(sample, 3) + 1.0
    loss.forward(backend="reference")
    graph = weakref.ref(loss._graph)
    gc.disable()
    try:
        del sample, loss
        assert graph() is None
    finally:
        gc.enable()
