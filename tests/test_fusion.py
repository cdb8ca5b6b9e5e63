"""Chains of elementwise calls, rows read where they stand, products over time: the same results, in fewer instructions."""

import numpy as np
import pytest
from conftest import SEED
from test_lowering import ALL, factorization, kernels_of, program_of

import wyrm
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.fuse import LONGEST, fused
from wyrm.frontend.lowering.schedule import groups
from wyrm.frontend.lowering.value import Value
from wyrm.kernels import KERNELS
from wyrm.optim import SGD, Adagrad, Adam
from wyrm.program import Chain

FUSING = frozenset(k.name for k in KERNELS.values() if k.optional)


def chains_of(program):
    return [dict(i.attributes)["chain"] for i in (*program.forward, *program.backward, *program.update) if i.kernel == "fused"]


def agrees_with_the_reference(build, backend, make=lambda parameters: SGD(0.05, parameters)):
    """``build(rng)`` returns a loss and its feed; an epoch of training ends with the same parameters and the same loss."""
    ends = []
    for name in (backend, "reference"):
        loss, feed = build(np.random.default_rng(SEED))
        history = wyrm.fit(loss, feed, make(loss.parameters()), shuffle=False, num_threads=1, backend=name)
        ends.append([*(p.value for p in loss.parameters()), np.array(history.epochs[0].loss)])
    for actual, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


def test_a_step_of_linear_regression_is_one_instruction():
    slope, intercept, x, y = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    program = program_of((slope * x + intercept - y).square(), "train")
    assert kernels_of(program.forward) == ["fused"]
    assert program.backward == program.update == ()
    (chain,) = chains_of(program)
    assert chain.guard is not None  # the loss is looked at before the parameters change
    assert [kernel for kernel, _ in chain.steps].count("multiply_add") == 1


def test_a_step_of_factorization_reads_and_writes_the_tables_rows():
    program = program_of(factorization(), "train")
    assert kernels_of(program.forward) == ["row_dot", "fused"]
    assert kernels_of(program.update) == ["fused"]
    rows = [b for b in program.buffers if b.kind == "row"]
    assert {(b.number, b.table.kind, b.table.number) for b in rows} == {(0, "value", 0), (1, "value", 1)}
    assert all(kernel == "multiply_subtract" for kernel, _ in chains_of(program)[-1].steps)


def test_rows_are_copied_where_a_rule_catches_up_and_in_interactive_programs():
    assert not any(b.kind == "row" for b in program_of(factorization()).buffers)
    lacking = program_of(factorization(), "train", ALL - {"lookup"})
    assert kernels_of(lacking.forward)[:2] == ["gather", "gather"]


def test_long_chains_are_cut():
    x = wyrm.InputNode((1, 1))
    node = x
    for _ in range(3 * LONGEST):
        node = (node * 0.5).tanh()
    chains = chains_of(program_of(node, "evaluate"))
    assert len(chains) > 2
    assert all(len(chain.steps) <= LONGEST for chain in chains)


def test_what_reads_a_parameter_comes_before_what_changes_it():
    """In another instruction where the shapes differ, in the same chain where they are equal."""
    k = Emitter(FUSING)
    parameter = Value("", shape=(2, 3), place=("value", 0))
    new = k.multiply(parameter, k.literal(2.0))
    read = k.sum(parameter)
    new.place = parameter.place
    ordered = [value for group in groups([read, new], None, False) for value in group]
    assert ordered.index(read) < ordered.index(new)


def test_chains_compute_what_their_calls_do(rng):
    """Against NumPy, step by step, of random calls."""
    functions = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "negate": np.negative}
    for _ in range(50):
        k = Emitter(FUSING)
        found = [Value("", shape=(2, 3), place=("input", n)) for n in range(3)]
        values = {v: rng.standard_normal((2, 3)) for v in found}
        calls = []
        for _ in range(int(rng.integers(2, 12))):
            name = str(rng.choice(list(functions)))
            operands = [list(values)[int(rng.integers(len(values)))] for _ in KERNELS[name].operands]
            call = k.call(name, *operands)
            values[call] = functions[name](*(values[o] for o in operands))
            calls.append(call)
        needed = {call for call in calls if rng.random() < 0.3} | {calls[-1]}
        (whole,) = fused(calls, needed)
        chain: Chain = whole.attributes["chain"]
        registers = [values[o] for o in whole.operands]
        for kernel, operands in chain.steps:
            a, *rest = (registers[o] for o in operands)
            if kernel == "copy":
                registers.append(a)
            elif kernel == "multiply_add":
                registers.append(a * rest[0] + rest[1])
            elif kernel == "multiply_subtract":
                registers.append(rest[1] - a * rest[0])
            else:
                registers.append(functions[kernel](a, *rest))
        assert set(whole.attributes["results"]) == needed
        for result, register in zip(whole.attributes["results"], chain.results, strict=True):
            np.testing.assert_allclose(registers[register], values[result], rtol=1e-12)


# --- where memory is shared -------------------------------------------------------------------------------------


@pytest.mark.variants
def test_gradients_are_those_by_the_old_values(backend):
    """Each parameter is the other's gradient: neither update may see what the other has done."""
    for shape in [(1, 1), (1, 5), (3, 4)]:
        a, b = (wyrm.ParameterNode(np.full(shape, v), dtype="float64") for v in (2.0, 3.0))
        x = wyrm.InputNode(shape, dtype="float64")
        loss = (a * b + x).scalar_sum()
        wyrm.fit(loss, {x: np.zeros((1, *shape))}, SGD(0.1, [a, b]), backend=backend)
        np.testing.assert_allclose(a.value, np.full(shape, 2 - 0.1 * 3))
        np.testing.assert_allclose(b.value, np.full(shape, 3 - 0.1 * 2))


@pytest.mark.variants
@pytest.mark.parametrize("width", [1, 33])
def test_rows_that_are_each_others_gradient(backend, width):
    users, items = (wyrm.ParameterNode(np.full((3, width), v), dtype="float64") for v in (2.0, 3.0))
    user, item, x = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype="float64")
    loss = users.index(user).vector_dot(items.index(item)) + x
    feed = {user: [1], item: [2], x: [0.0]}
    wyrm.fit(loss, feed, SGD(0.1, [users, items]), backend=backend)
    np.testing.assert_allclose(users.value[:, 0], [2, 2 - 0.1 * 3, 2])
    np.testing.assert_allclose(items.value[:, 0], [3, 3, 3 - 0.1 * 2])


@pytest.mark.variants
@pytest.mark.parametrize("width", [1, 33])
@pytest.mark.parametrize("optimizer", [SGD, Adam])
@pytest.mark.parametrize("stopped", [False, True])
def test_one_table_twice(backend, width, optimizer, stopped):
    """The same row may be looked up by both indices; with the gradient of one of them stopped, its row is updated at once."""

    def build(rng):
        table = wyrm.ParameterNode(rng.standard_normal((4, width)) * 0.3, dtype="float64")
        one, two, y = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype="float64")
        other = table.index(two).detach() if stopped else table.index(two)
        feed = {one: rng.integers(0, 4, 40), two: rng.integers(0, 4, 40), y: rng.standard_normal(40)}
        return (table.index(one).vector_dot(other) - y).square(), feed

    agrees_with_the_reference(build, backend, lambda parameters: optimizer(0.02, parameters))


@pytest.mark.variants
def test_two_nodes_of_one_storage(backend):
    """They are one parameter in training, looked up twice."""

    def build(rng):
        first = wyrm.ParameterNode(rng.standard_normal((4, 6)) * 0.5, dtype="float64")
        second = wyrm.ParameterNode.shared(first.storage)
        one, two = wyrm.IndexInputNode(), wyrm.IndexInputNode()
        feed = {one: rng.integers(0, 4, 30), two: rng.integers(0, 4, 30)}
        return first.index(one).vector_dot(second.index(two)).square(), feed

    agrees_with_the_reference(build, backend, lambda parameters: SGD(0.02, parameters[:1]))


@pytest.mark.variants
@pytest.mark.parametrize("stopped", [False, True])
def test_a_parameter_is_used_as_a_whole_and_by_a_row(backend, stopped):
    """What reads the table reads it before its row changes."""

    def build(rng):
        table = wyrm.ParameterNode(rng.standard_normal((3, 5)) * 0.3, dtype="float64")
        index, x = wyrm.IndexInputNode(), wyrm.InputNode((1, 5), dtype="float64")
        whole = table.detach() if stopped else table
        loss = (table.index(index) * x.dot(whole.t()).dot(whole)).scalar_sum()
        return loss, {index: rng.integers(0, 3, 20), x: rng.standard_normal((20, 5))}

    agrees_with_the_reference(build, backend)


@pytest.mark.variants
def test_a_loss_that_is_a_row(backend):
    """It is what stood there before the update."""
    table, index = wyrm.ParameterNode([[1.0], [2.0], [4.0]], dtype="float64"), wyrm.IndexInputNode()
    history = wyrm.fit(table.index(index), {index: [2, 0]}, SGD(0.5, [table]), shuffle=False, backend=backend)
    assert history.epochs[0].loss == 2.5
    np.testing.assert_array_equal(table.value, [[0.5], [2.0], [3.5]])


@pytest.mark.variants
@pytest.mark.parametrize("bad", [np.inf, 1e300])
def test_a_loss_that_is_not_finite_changes_nothing(backend, bad):
    """Not even where one instruction computes the loss and changes the parameters."""
    slope, x = wyrm.ParameterNode(1.0, dtype="float64"), wyrm.InputNode((1, 1), dtype="float64")
    loss = (slope * x).square()
    with pytest.raises(wyrm.NotFiniteError, match="example 2"):
        wyrm.fit(loss, {x: [0.0, 0.0, bad, 1.0]}, SGD(0.1, [slope]), shuffle=False, backend=backend)
    assert slope.value[0, 0] == 1.0


@pytest.mark.variants
@pytest.mark.parametrize("length", [1, 3])
def test_the_gradient_of_a_weight_used_at_every_step(backend, length):
    """One product over all steps, added to the weight in place."""

    def build(rng):
        parameters = wyrm.nn.lstm.Parameters(3, 4, rng=1, dtype="float64")
        inputs = [wyrm.InputNode((2, 3), dtype="float64") for _ in range(length)]
        loss = parameters.build().forward(inputs)[-1].square().scalar_sum()
        return loss, {x: rng.standard_normal((10, 2, 3)) for x in inputs}

    agrees_with_the_reference(build, backend)
    agrees_with_the_reference(build, backend, lambda parameters: Adagrad(0.1, parameters, l2=0.01))
    program = program_of(build(np.random.default_rng(SEED))[0], "train")
    products = [i for i in (*program.forward, *program.update) if i.kernel == "matmul" and dict(i.attributes)["transpose_a"]]
    assert [p.out.shape for p in products] == [(7, 16)]
    assert products[0].operands[0].shape == (2 * length, 7)
    assert products[0].accumulate


@pytest.mark.variants
@pytest.mark.parametrize("width", [1, 5, 33])
def test_what_stands_between_draws_is_fused(backend, width):
    """Each draw is followed by its body as it was recorded; the calls before, between and after them are chains."""

    def build(rng):
        table = wyrm.ParameterNode(rng.standard_normal((20, width)) * 0.3, dtype="float64")
        scale = wyrm.ParameterNode(rng.standard_normal((1, width)), dtype="float64")
        indices = [wyrm.IndexInputNode() for _ in range(3)]
        state, losses = table.index(indices[0]), []
        for n, index in enumerate(indices[1:]):
            row = table.index(index)
            state = row + scale.sigmoid() * (state - row)
            sample = wyrm.SampledIndexNode(20, seed=n)
            positive, negative = state.vector_dot(row), state.vector_dot(table.index(sample))
            losses.append(wyrm.nn.losses.warp(positive, negative, sample, tries=3))
        return wyrm.stack(losses).scalar_sum(), {index: rng.integers(0, 20, 50) for index in indices}

    agrees_with_the_reference(build, backend, lambda parameters: SGD(0.02, parameters))
    agrees_with_the_reference(build, backend, lambda parameters: Adagrad(0.1, parameters, l2=0.01))
    program = program_of(build(np.random.default_rng(SEED))[0], "train")
    draws = [i for i in program.forward if i.kernel == "draw"]
    assert len(draws) == 2
    for draw in draws:
        assert "fused" not in kernels_of(draw.body)
    kernels = kernels_of(program.forward)
    first, second = (n for n, kernel in enumerate(kernels) if kernel == "draw")
    assert "fused" in kernels[first:second]
    assert "fused" in kernels_of(program.backward)
