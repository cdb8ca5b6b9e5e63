"""Lowering: what programs hold, and that values which are alive at the same time never share memory."""

import re

import numpy as np
import pytest
import random_graphs
from conftest import SEED

import wyrm
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training
from wyrm.frontend.lowering.value import Value
from wyrm.kernels import KERNELS
from wyrm.optim import SGD
from wyrm.program import Slot

ALL = frozenset(k.name for k in KERNELS.values() if k.optional)
#: Without what test_fusion.py is about.
PLAIN = ALL - {"fused", "lookup"}


def program_of(node, purpose="interactive", kernels=ALL):
    traced, _, _ = trace([node._structure])
    rule = SGD.rule(frozenset({"learning_rate"}))
    training = tuple(Training(rule, 0) for _ in node.parameters()) if purpose == "train" else ()
    return lower(traced, purpose, kernels, training)


def kernels_of(instructions):
    return [i.kernel for i in instructions]


def factorization():
    users, items = (wyrm.ParameterNode(np.zeros((10, 4))) for _ in range(2))
    user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    return (users.index(user).vector_dot(items.index(item)) - rating).square()


def test_a_looked_up_row_is_updated_at_once():
    """No gradient is gathered where each table is looked up by one index."""
    program = program_of(factorization(), "train", PLAIN)
    assert kernels_of(program.forward) == ["gather", "gather", "row_dot", "subtract", "multiply"]
    assert kernels_of(program.backward) == ["multiply", "multiply", "multiply"]
    assert kernels_of(program.update) == ["update_rows", "update_rows"]
    assert not any(buffer.kind == "gradient" for buffer in program.buffers)


def test_rows_looked_up_several_times_are_gathered_first():
    table = wyrm.ParameterNode(np.zeros((10, 4)))
    loss = table.index(wyrm.IndexInputNode()).vector_dot(table.index(wyrm.IndexInputNode()))
    program = program_of(loss, "train", PLAIN)
    assert kernels_of(program.backward) == ["accumulate_rows", "accumulate_rows"]
    assert kernels_of(program.update) == ["update_gradient"]
    assert program.parameters[0].rows_per_pass == 2


def test_interactive_programs_keep_every_value():
    loss = factorization()
    program = program_of(loss)
    traced, _, _ = trace([loss._structure])
    assert set(program.values) == set(range(len(traced.records)))
    assert kernels_of(program.backward)[-2:] == ["accumulate_rows", "accumulate_rows"]
    assert program.update == ()


def test_evaluating_programs_compute_what_the_roots_need():
    w, x = wyrm.ParameterNode(np.ones((2, 2))), wyrm.InputNode((1, 2))
    program = program_of(x.dot(w.t()), "evaluate")
    assert kernels_of(program.forward) == ["matmul"]  # the transpose is read as it stands
    assert dict(program.forward[0].attributes) == {"transpose_a": False, "transpose_b": True}
    assert program.backward == program.update == ()


def test_limits_are_those_of_the_smallest_table():
    index = wyrm.IndexInputNode()
    large, small = wyrm.ParameterNode(np.zeros((50, 2))), wyrm.ParameterNode(np.zeros((7, 2)))
    program = program_of(large.index(index) + small.index(index))
    assert [i.limit for i in program.inputs] == [7]


def test_programs_are_cached_by_what_they_compute():
    loss = factorization()
    assert program_of(loss) is program_of(loss)
    assert program_of(loss) is program_of(factorization())
    assert program_of(loss) is not program_of(loss, "train")
    assert program_of(loss) is not program_of(loss, kernels=frozenset())


def test_programs_print():
    text = str(program_of(factorization(), "train", PLAIN))
    assert "program for train, float32" in text
    assert "gather(value[0](10, 4), index[0](1, 1))" in text
    assert "value[1](10, 4) = update_rows(" in text and "rule=sgd" in text
    text = str(program_of(factorization(), "train"))
    assert "row_dot(value[0][index 0](1, 4), value[1][index 1](1, 4))" in text
    assert re.search(r"chain=\d=subtract\(0,1\) \d=multiply\(\d,\d\) .* -> \(\d, \d", text)


def test_programs_are_immutable():
    program = program_of(factorization())
    for thing, name in ((program, "dtype"), (program.forward[0], "kernel"), (program.forward[0].out, "offset")):
        with pytest.raises(AttributeError):
            setattr(thing, name, None)


def test_the_emitter_leaves_out_what_changes_nothing():
    k = Emitter(ALL)
    a, b = Value("", shape=(2, 3)), Value("", shape=(3, 3))
    assert k.multiply(k.literal(1.0), a) is a
    assert k.multiply(a, k.literal(1.0)) is a
    assert k.multiply(k.literal(2.0), k.literal(3.0)) is k.literal(6.0)
    assert k.negate(k.literal(2.0)) is k.literal(-2.0)
    assert k.transpose(k.transpose(b)) is b
    assert k.reduce(a, (2, 3)) is a
    assert k.values[0].kernel == "transpose" and len(k.values) == 1
    row = k.reduce(k.literal(1.0), (2, 3))
    assert k.multiply(row, a) is a
    twos = k.multiply(row, k.literal(2.0))  # without a copy the shape would be another
    assert (twos.kernel, twos.operands, twos.shape) == ("copy", (k.literal(2.0),), (2, 3))
    column = k.reduce(k.literal(1.0), (2, 1))
    product = k.multiply(column, Value("", shape=(1, 3)))
    assert (product.kernel, product.shape) == ("multiply", (2, 3))
    with pytest.raises(AttributeError):
        k.no_such_kernel  # noqa: B018


def test_optional_kernels_are_expanded_where_they_are_lacking():
    a = Value("", shape=(2, 3))
    for kernels, expected in ((ALL, ["row_dot"]), (frozenset(), ["multiply", "sum"])):
        k = Emitter(kernels)
        assert k.row_dot(a, a).shape == (2, 1)
        assert kernels_of(k.values) == expected


def lstm_loss(steps=2):
    """An LSTM cell, unrolled: its weights are used at every step."""
    weights, bias = wyrm.ParameterNode(np.ones((6, 12))), wyrm.ParameterNode(np.ones((1, 12)))
    state = wyrm.ParameterNode(np.zeros((2, 6)))
    for _ in range(steps):
        x = wyrm.InputNode((2, 3))
        gates = wyrm.stack([state[:, :3], x], axis=1).dot(weights) + bias
        state = gates.lstm_cell(state[:, 3:])
    return state[:, :3].scalar_sum()


def test_an_lstm_cell_is_differentiated_by_one_call():
    """Of both VJPs together, on what the forward pass has kept: it is not computed again."""
    gates, cell = wyrm.ParameterNode(np.ones((2, 12))), wyrm.ParameterNode(np.ones((2, 3)))
    for loss, steps in ((gates.lstm_cell(cell).scalar_sum(), 1), (lstm_loss(2), 2)):
        for purpose in ("train", "interactive"):
            program = program_of(loss, purpose, PLAIN)
            assert kernels_of(program.forward).count("lstm_cell") == steps
            assert kernels_of(program.backward).count("lstm_cell_vjp") == steps
            assert "lstm_cell" not in kernels_of(program.backward)
            kept = [i.out for i in program.forward if i.kernel == "lstm_cell"]
            read = [i.operands[2] for i in program.backward if i.kernel == "lstm_cell_vjp"]
            assert read == kept[::-1]
    evaluating = program_of(lstm_loss(2), "evaluate")
    assert kernels_of(evaluating.forward).count("lstm_cell") == 2 and not evaluating.backward


@pytest.mark.parametrize("purpose", ["interactive", "accumulate", "train"])
def test_gradients_of_a_weight_over_time_are_one_product(purpose):
    program = program_of(lstm_loss(5), purpose)
    calls = [*program.backward, *program.update]
    products = [i for i in calls if i.kernel == "matmul" and dict(i.attributes)["transpose_a"]]
    assert [[slot.shape for slot in product.operands] for product in products] == [[(10, 6), (10, 12)]]


def test_the_derivative_of_an_lstm_cell_takes_its_two_gradients_where_they_are():
    """No copies: that by the hidden state is a slice of the next step's product, that by the cell one of its derivative."""
    program = program_of(lstm_loss(3), "train", PLAIN)
    cells = [i for i in program.backward if i.kernel == "lstm_cell_vjp"]
    products = [i for i in program.backward if i.kernel == "matmul"]
    for before, cell, product in zip(cells, cells[1:], products, strict=False):
        assert cell.operands[0][:2] == product.out[:2] and cell.operands[0].shape == (2, 3)
        assert cell.operands[1].offset == before.out.offset + 12 and cell.operands[1].shape == (2, 3)


def test_products_compute_only_what_is_read():
    """Of rows that were put together for one product, only some need a gradient; of a product, only some elements are read."""
    weights, x = wyrm.ParameterNode(np.ones((5, 4))), wyrm.ParameterNode(np.ones((2, 3)))
    loss = wyrm.stack([wyrm.InputNode((2, 2)), x], axis=1).dot(weights).square().scalar_sum()
    program = program_of(loss, "train", PLAIN)
    by_x = next(i for i in program.backward if i.kernel == "matmul" and dict(i.attributes)["transpose_b"])
    assert by_x.out.shape == (2, 3) and by_x.operands[1].shape == (3, 4) and by_x.operands[1].offset == 8
    product = wyrm.InputNode((4, 3)).dot(wyrm.InputNode((3, 5)))
    root = product[1:2, 1:3].scalar_sum() + product[2:4, 2:4].scalar_sum()
    (narrow,) = (i for i in program_of(root, "evaluate", PLAIN).forward if i.kernel == "matmul")
    assert narrow.out.shape == (3, 3)
    for whole in (root + product.scalar_sum(), root + product.reshape(5, 4)[0].scalar_sum()):
        (wide,) = (i for i in program_of(whole, "evaluate", PLAIN).forward if i.kernel == "matmul")
        assert wide.out.shape == (4, 5)
    (kept,) = (i for i in program_of(root).forward if i.kernel == "matmul")
    assert kept.out.shape == (4, 5)


@pytest.mark.parametrize("seed", range(8))
def test_training_on_parts_of_products_by_numpy(backend, seed):
    """Overlapping slices of a product, of transposed and of sliced factors, and what a step makes of the factors."""
    rng = np.random.default_rng(seed)
    m, k, n = (int(length) for length in rng.integers(2, 40, 3))
    a, b, c = rng.normal(size=(m, k)), rng.normal(size=(n, k)), rng.normal(size=(1, 1))
    left, right = (wyrm.ParameterNode(values.copy(), dtype="float64") for values in (a, b))
    x = wyrm.InputNode((1, 1), dtype="float64")
    product, masks, loss = left.dot(right.t()), np.zeros((m, n)), x * 0.0
    for _ in range(2):
        row, col = int(rng.integers(0, m)), int(rng.integers(0, n))
        below, beyond = int(rng.integers(row, m)) + 1, int(rng.integers(col, n)) + 1
        loss = loss + product[row:below, col:beyond].scalar_sum() * x
        masks[row:below, col:beyond] += 1
    history = wyrm.fit(loss, {x: c}, SGD(0.1, [left, right]), backend=backend)
    np.testing.assert_allclose(history.losses, [(masks * (a @ b.T)).sum() * c[0, 0]], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(left.value, a - 0.1 * c * masks @ b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(right.value, b - 0.1 * c * masks.T @ a, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_bias_used_at_several_steps_is_one_sum():
    """Of the rows that the weights' gradient is a product of, without copies."""
    weights, bias = wyrm.ParameterNode(np.ones((2, 12))), wyrm.ParameterNode(np.ones((1, 12)))
    for rows in (1, 3):
        cell, loss = wyrm.InputNode((rows, 3)), 0.0
        for _ in range(4):
            state = (wyrm.InputNode((rows, 2)).dot(weights) + bias).lstm_cell(cell)
            cell, loss = state[:, 3:], loss + state.scalar_sum()
        calls = program_of(loss, "train", PLAIN).backward
        (one,) = (i for i in calls if i.kernel == "sum" and i.out.shape == (1, 12))
        (product,) = (i for i in calls if i.kernel == "matmul" and dict(i.attributes)["transpose_a"])
        assert one.operands == (product.operands[1],) and one.operands[0].shape == (4 * rows, 12)


def test_calls_that_are_made_once_are_never_added_onto():
    k = Emitter(ALL)
    gates, cell, other = (Value("", shape=shape) for shape in ((2, 12), (2, 3), (2, 21)))
    saved = k.once("lstm_cell", gates, cell)
    assert k.once("lstm_cell", gates, cell) is saved and len(k.values) == 1
    assert k.once("lstm_cell", gates, Value("", shape=(2, 3))) is not saved
    saved.uses += 1
    assert k.total([saved, other]).kernel == "add"
    assert saved.onto is None


def cells(slot: Slot):
    """The elements of the real buffer that a slot covers."""
    rows, cols = slot.shape
    return {slot.offset + i * slot.stride + j for i in range(rows) for j in range(cols)}


def stored_and_read(instruction):
    """The slots of an instruction's results, and of what it reads."""
    count = len(instruction.results)
    return instruction.results, (instruction.out, *instruction.operands)[count:]


def check_memory(program):
    """Run the program symbolically: every operand must still hold what was last written for it."""
    holds: dict[int, object] = {}
    written: dict[Slot, object] = {}

    def write(slot, token):
        written[slot] = token
        for cell in cells(slot):
            holds[cell] = token

    fixed = [i.slot for i in program.inputs if i.kind == "dense"] + [slot for _, slot in program.literals]
    for slot in fixed + ([program.seed] if program.seed else []):
        write(slot, object())
    for n, instruction in enumerate((*program.forward, *program.backward, *program.update)):
        results, read = stored_and_read(instruction)
        operands = [slot for slot in read if slot.buffer == 0]
        assert all(cell in holds for slot in operands for cell in cells(slot)), f"{instruction} reads what nobody wrote"
        for out in (slot for slot in results if slot.buffer == 0):
            taken = cells(out)
            # a chain reads an element before it stores one in its place
            others = [slot for slot in operands if not (instruction.kernel == "fused" and slot == out)]
            assert not any(taken & cells(slot) for slot in others), f"{instruction} writes where it reads"
            assert not any(taken & cells(slot) for slot in fixed), f"{instruction} overwrites an input or literal"
            if instruction.accumulate:
                assert taken <= holds.keys()
            write(out, n)
    for slot in (*program.values.values(), *program.outputs):
        if slot.buffer == 0:
            assert cells(slot) <= holds.keys()
            assert max((end for end in cells(slot)), default=0) < program.real_length
    return holds


@pytest.mark.parametrize("kernels", [ALL, frozenset()], ids=["with kernels of their own", "expanded"])
def test_memory_of_lstm_cells(kernels):
    """What a cell keeps for its derivative stays until the derivative has been computed."""
    for purpose in ("train", "interactive", "evaluate"):
        program = program_of(lstm_loss(3), purpose, kernels)
        check_memory(program)
    program = program_of(lstm_loss(3), "interactive", kernels - {"fused"})
    kept = [i.out for i in program.forward if i.kernel == "lstm_cell"]
    for slot in kept:
        others = [i.out for i in (*program.forward, *program.backward) if i.out.buffer == 0 and i.out != slot]
        assert not any(cells(slot) & cells(other) for other in others)


@pytest.mark.parametrize("kernels", [ALL, PLAIN], ids=["fused", "one by one"])
def test_memory_of_random_programs(kernels):
    """The values come out right on poisoned memory only if nobody's memory is used again too early."""
    for n in range(100):
        graph = random_graphs.drawn(SEED + n)
        for head in graph.heads:
            check_memory(program_of(head, kernels=kernels))
            if head.needs_gradient:
                check_memory(program_of(head.scalar_sum(), "train", kernels))
            check_memory(program_of(head, "evaluate", kernels))


def test_interactive_programs_keep_values_through_the_backward_pass():
    """Every node's value after forward and backward is what it is when it is computed alone."""
    for n in range(60):
        graph = random_graphs.drawn(SEED + n)
        head = graph.heads[0]
        with wyrm.evaluating():  # as evaluate does, to compare with
            head.forward(backend="reference")
        head.backward(1.0)
        for node in head._ancestors():
            if node._parents:
                fresh = random_graphs.evaluated(node)
                np.testing.assert_array_equal(node.value, fresh)


def test_memory_is_used_again():
    """A long chain needs no more memory when it is trained than a short one."""
    lengths = []
    for depth in (5, 50):
        y = wyrm.ParameterNode(np.ones((4, 16)))
        for _ in range(depth):
            y = y + 1.0
        lengths.append(program_of(y.scalar_sum(), "evaluate").real_length)
    assert lengths[1] - lengths[0] < 45 * 4 * 2  # the constants, and nothing for the values


def test_large_values_are_aligned():
    a, b = wyrm.ParameterNode(np.ones((5, 7))), wyrm.InputNode((3, 5))
    program = program_of(b.dot(a).sigmoid())
    for instruction in program.forward:
        assert instruction.out.offset * 4 % 64 == 0
