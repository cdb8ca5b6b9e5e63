"""Numbers that are drawn: how often, which never, the same everywhere; drawn again, and only what has to be run again."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import wyrm
from wyrm import nn, philox
from wyrm.frontend.lowering import lower as lowering
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training
from wyrm.frontend.op import PARAMETER
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


def numbers(rows, dtype="float32"):
    """A table in which each row holds its number."""
    return wyrm.ParameterNode(np.arange(rows).reshape(rows, 1), dtype=dtype)


def drawn(sample):
    """What one pass draws."""
    sample.forward()
    return sample.value[:, 0]


def program_of(node):
    return lower(trace([node._structure])[0], "interactive", frozenset())


def skip_of(loss, optimizer):
    """What a training program names as the value without which being positive it changes nothing."""
    traced, _, _ = trace([loss._structure])
    training = tuple(Training(optimizer.groups[0].rule, 0) for _ in traced.leaves(PARAMETER))
    return lower(traced, "train", frozenset(), training).skip


def draws_in(node):
    return [i for i in program_of(node).forward if i.kernel == "draw"]


# -- which numbers


def test_blocks_are_those_of_the_published_generator():
    """Known answers of Random123, the authors' library: of zeros, of ones, of digits of pi."""
    ones = -1
    assert philox._blocks((0, 0, 0), 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox._blocks((ones, 0xFFFFFFFF, ones), 0xFFFFFFFF) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    seed, step = 0x299F31D0A4093822, 0x0370734413198A2E
    assert philox._blocks((seed, 0x85A308D3, step), 0x243F6A88) == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


@pytest.mark.parametrize("power", [None, 0, 0.75, 1, -0.5])
def test_how_often_numbers_are_drawn(backend, power):
    """A chi-squared test against the weights; numbers without a count are never drawn."""
    counts = np.array([5, 0, 1, 20, 3, 0, 8, 2, 2, 40])
    rows = len(counts) if power is None else wyrm.Frequencies(counts, power)
    weights = np.ones(10) if power is None else np.where(counts > 0, np.maximum(counts, 1.0) ** power, 0)
    observed = np.bincount(drawn(wyrm.SampledIndexNode(rows, 20_000, seed=4)), minlength=10)
    expected = 20_000 * weights / weights.sum()
    assert (observed[expected == 0] == 0).all()
    possible = expected > 0
    statistic = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
    degrees = possible.sum() - 1
    assert statistic < degrees + 4 * np.sqrt(2 * degrees)  # four standard deviations


def test_draws_of_streams_steps_and_rows_are_independent(backend):
    """Equal pairs are as rare as they should be: between samples of one graph, steps, and neighbours in one sample."""
    table = numbers(50)
    samples = [wyrm.SampledIndexNode(50, 4000, seed=1) for _ in range(2)]
    loss = (table.index(samples[0]) + table.index(samples[1])).scalar_sum() * 0.0
    optimizer, seen = SGD(0.0, [table]), []
    for _ in range(2):
        loss.forward()
        seen += [sample.value[:, 0] for sample in samples]
        loss.backward(1.0)
        optimizer.step()
    pairs = [(seen[a], seen[b]) for a in range(4) for b in range(a)] + [(s[1:], s[:-1]) for s in seen]
    for a, b in pairs:
        assert abs((a == b).mean() - 0.02) < 5 * np.sqrt(0.02 * 0.98 / 4000)


def test_excluded_numbers_are_not_drawn(backend, rng):
    for count, bags in ((2000, [[1, 2, 3, 40, 41]]), (60, [rng.integers(0, 50, n).tolist() for n in range(60)])):
        exclude = wyrm.BagInputNode(len(bags), bags)
        for rows in (50, wyrm.Frequencies(np.arange(1, 51))):
            found = drawn(wyrm.SampledIndexNode(rows, count, exclude=exclude, seed=7))
            for row, number in enumerate(found.tolist()):
                assert number not in bags[row % len(bags)]
            if len(bags) == 1:
                assert set(found.tolist()) >= set(range(10, 40))


def test_attempts_come_to_an_end(backend):
    """Where everything is excluded, the last attempt stands."""
    exclude = wyrm.BagInputNode(1, [0, 1, 2, 3, 4])
    found = drawn(wyrm.SampledIndexNode(5, 30, exclude=exclude, seed=7))
    assert found.tolist() == [philox.draw((7, 0, 0), n, 5, None, range(5)) for n in range(30)]
    assert len(set(found.tolist())) == 5


def test_the_same_until_the_next_step(backend):
    table = numbers(1000)
    sample = wyrm.SampledIndexNode(1000, 5)
    loss = table.index(sample).scalar_sum() * 0.0
    optimizer, seen = SGD(0.0, [table]), []
    for _ in range(3):
        for _ in range(2):
            loss.forward()
            seen.append(sample.value[:, 0].tolist())
        loss.backward(1.0)
        optimizer.step()
    assert seen[0] == seen[1] != seen[2] == seen[3] != seen[4] == seen[5]
    assert drawn(wyrm.SampledIndexNode(1000, 5)).tolist() != drawn(wyrm.SampledIndexNode(1000, 5)).tolist()


def test_frequencies():
    """The table holds the weights up to rounding, whatever they are."""
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 8, 1000, 70_000):
        weights = rng.random(n) ** 5 * (rng.random(n) < 0.7) + (np.arange(n) == n // 2)
        for power in (1, 0.75):
            found = wyrm.Frequencies(weights, power).probabilities()
            expected = weights**power / (weights**power).sum()
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * expected.max())
            assert (found[weights == 0] == 0).all()
    equal = wyrm.Frequencies(np.full(1000, 0.1), 1)
    assert (equal.probabilities() == 1e-3).all()
    extreme = wyrm.Frequencies([1e-300, 1e300], 1).probabilities()
    assert extreme[1] == 1
    for other in (copy.deepcopy(equal), pickle.loads(pickle.dumps(equal))):
        np.testing.assert_array_equal(other.probabilities(), equal.probabilities())
        assert (
            drawn(wyrm.SampledIndexNode(other, 9, seed=2)).tolist() == drawn(wyrm.SampledIndexNode(equal, 9, seed=2)).tolist()
        )


def test_a_sample_stands_wherever_an_index_input_may(backend, rng):
    """Rows of a parameter and of something computed, elements of rows; by frequency, in both dtypes, the same numbers."""
    values = rng.standard_normal((6, 4))
    found = []
    for dtype in ("float32", "float64"):
        table = wyrm.ParameterNode(values, dtype=dtype)
        rows = wyrm.SampledIndexNode(wyrm.Frequencies([1, 2, 3, 4, 5, 6]), 9, seed=1)
        columns = wyrm.SampledIndexNode(4, 9, seed=1)
        picked = (table * 2.0).index(rows).pick(columns) + table.index(rows).pick(columns)
        picked.forward()
        found.append((rows.value[:, 0], columns.value[:, 0]))
        np.testing.assert_allclose(picked.value[:, 0], 3 * values[found[-1]], rtol=1e-6)
        if dtype == "float64":
            difference, gradient = wyrm.finite_difference(table, picked.scalar_sum())
            np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(*found)


def test_evaluate_draws_for_each_example_its_own(backend):
    table, x, sample = numbers(1000), wyrm.InputNode((1, 1)), wyrm.SampledIndexNode(1000, 3, seed=9)
    node, feed = table.index(sample) + x, {x: np.zeros(20)}
    values = wyrm.evaluate(node, feed)
    assert values[:, :, 0].tolist() == [[philox.draw((9, 0, e), n, 1000) for n in range(3)] for e in range(20)]
    np.testing.assert_array_equal(wyrm.evaluate(node, feed, num_threads=2), values)


def test_fit_gives_its_seed(backend):
    def losses(own, seed):
        x, sample = wyrm.InputNode((1, 1)), wyrm.SampledIndexNode(1000, seed=own)
        table = numbers(1000)
        loss = table.index(sample) * x
        return wyrm.fit(loss, {x: np.ones(3)}, SGD(0.0, [table]), num_epochs=2, seed=seed, shuffle=False).losses

    assert losses(None, 1) == losses(None, 1) != losses(None, 2)
    assert losses(5, 1) == losses(5, 2)
    assert len(set(losses(5, 1))) == 2


# -- drawn again


def ranking(rows=40, width=8, seed=2, tries=10, dtype="float64", bag=False, **options):
    """WARP over a factorization, users by a bag or an index; what is needed to look into it."""
    rng = np.random.default_rng(5)
    users = wyrm.ParameterNode(rng.standard_normal((6, width)), dtype=dtype)
    items = wyrm.ParameterNode(rng.standard_normal((rows, width)), dtype=dtype)
    user, item = wyrm.BagInputNode(1, [3]) if bag else wyrm.IndexInputNode(1, 3), wyrm.IndexInputNode(1, 7)
    sample = wyrm.SampledIndexNode(rows, seed=seed)
    row = users.index_sum(user) if bag else users.index(user)
    positive, negative = row.vector_dot(items.index(item)), row.vector_dot(items.index(sample))
    loss = nn.losses.warp(positive, negative, sample, tries=tries, **options)
    return loss, users, items, user, item, sample


@pytest.mark.parametrize("by_rank", [True, False])
def test_warp(backend, by_rank):
    """The number that ends the draws, the loss and both gradients, for many seeds; some find no violation."""
    found = set()
    for seed in range(25):
        loss, users, items, *_, sample = ranking(seed=seed, tries=3, by_rank=by_rank, margin=0.5, weights=2.0)
        loss.forward()
        u, v = users.value[3], items.value
        violations = 0.5 - u @ v[7] + v @ u
        tried = [philox.draw((seed, 0, 0), n, 40) for n in range(3)]
        made = next((n for n, number in enumerate(tried, 1) if violations[number] > 0), 3)
        last = tried[made - 1]
        factor = 2 * (np.log(max(1, 39 // made)) if by_rank else 1) * (violations[last] > 0)
        found.add((made, bool(factor)))
        assert sample.value[0, 0] == last
        np.testing.assert_allclose(loss.value[0, 0], factor * violations[last], rtol=1e-12)
        loss.backward(1.0)
        expected = np.zeros(v.shape)
        expected[last] += factor * u
        expected[7] -= factor * u
        np.testing.assert_allclose(items.gradient.to_dense(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(users.gradient.to_dense()[3], factor * (v[last] - v[7]), rtol=1e-12, atol=1e-14)
        users.zero_gradient()
        items.zero_gradient()
        for parameter in (users, items) if seed < 3 else ():
            difference, gradient = wyrm.finite_difference(parameter, loss)
            np.testing.assert_allclose(gradient, difference, rtol=1e-5, atol=1e-7)
            parameter.zero_gradient()
    assert len(found) > 3
    assert (3, False) in found


def test_steps_and_runs_are_the_same(backend):
    rng = np.random.default_rng(1)
    chosen, rated = rng.integers(0, 6, 50), rng.integers(0, 40, 50)
    results = []
    for run in (True, False):
        loss, users, items, user, item, _ = ranking()
        optimizer = wyrm.optim.Adagrad(0.1, loss.parameters())
        if run:
            wyrm.fit(loss, {user: chosen, item: rated}, optimizer, shuffle=False, num_threads=1)
        else:
            for u, i in zip(chosen, rated, strict=True):
                user.set_value(u)
                item.set_value(i)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        results.append((users.value.copy(), items.value.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_excluded_numbers_do_not_end_draws(backend, rng, dtype):
    """From bags of any length, of steps and of runs, some of them shared: such a number counts as a draw."""
    rows, tries = 40, 4
    bags = [rng.choice(rows, size=n, replace=False).astype(dtype) for n in (0, 1, 7, 8, 9, 17, 33, 40)]
    taken = rng.integers(0, len(bags), 60)
    expected = []
    for step, bag in enumerate(taken):
        tried = [philox.draw((9, 0, step), n, rows) for n in range(tries)]
        ends = [n for n in tried if n > 20 and n not in bags[bag]]
        expected.append(ends[0] - 20.0 if ends else min(tried[-1] - 20.0, 0.0))
    assert {value > 0 for value in expected} == {True, False} and 0 in expected
    shift, seen = wyrm.ParameterNode(0.0), wyrm.BagInputNode()
    sample = wyrm.SampledIndexNode(rows, exclude=seen, seed=9)
    redrawn = (numbers(rows).index(sample) - 20.0).redraw(sample, tries)
    loss, optimizer = redrawn + shift * 0.0, SGD(0.1, [shift])
    for value, bag in zip(expected, taken, strict=True):
        seen.set_value(bags[bag])
        loss.forward()
        assert redrawn.value[0, 0] == value
        loss.backward(1.0)
        optimizer.step()
    feed = {seen: wyrm.Bags.from_lists(bags).take(taken)}
    history = wyrm.fit(loss, feed, SGD(0.1, [shift]), shuffle=False, num_threads=1)
    assert history.losses[0] == pytest.approx(np.mean(expected))


OPTIMIZERS = {
    "sgd": (lambda p: SGD(0.1, p), True),
    "adagrad": (lambda p: wyrm.optim.Adagrad(0.1, p, initial_accumulator_value=0.5), True),
    "row-wise": (lambda p: wyrm.optim.RowwiseAdagrad(0.1, p), True),
    "clipped": (lambda p: SGD(0.1, p, clip_norm=1.0), True),
    "adam": (lambda p: wyrm.optim.Adam(0.1, p), False),
    "momentum": (lambda p: SGD(0.1, p, momentum=0.9), False),
    "l2": (lambda p: SGD(0.1, p, l2=0.1), False),
    "decay": (lambda p: wyrm.optim.Adagrad(0.1, p, weight_decay=0.1), False),
    "l1": (lambda p: wyrm.optim.Adagrad(0.1, p, l1=0.1), False),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bag", [False, True])
def test_steps_that_change_nothing_may_be_skipped(backend, name, bag):
    """Runs do what steps do, whether they may end early or not; a loss with a part of another kind may not."""
    make, may = OPTIMIZERS[name]
    rng = np.random.default_rng(1)
    chosen, rated, results = rng.integers(0, 6, 60), rng.integers(0, 40, 60), []
    for run in (True, False):
        loss, users, items, user, item, _ = ranking(tries=2, margin=0.1, bag=bag)
        optimizer = make(loss.parameters())
        if run:
            assert (skip_of(loss, optimizer) is not None) == may
            assert skip_of(loss + users.index(wyrm.IndexInputNode(1, 2)).sum(), optimizer) is None
            assert skip_of(loss.square() + items.index(item).sum() * loss, optimizer) is None
            feed = {user: chosen[:, None].tolist() if bag else chosen, item: rated}
            wyrm.fit(loss, feed, optimizer, shuffle=False, num_threads=1)
        else:
            for u, i in zip(chosen, rated, strict=True):
                user.set_value(u if not bag else [u])
                item.set_value(i)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        results.append((users.value.copy(), items.value.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beside", ["given", "drawn"])
def test_rows_that_are_behind_are_caught_up_with_before_a_draw_reads_them(backend, beside):
    """Momentum, which moves rows that a step does not touch: in runs and in steps as the dense algorithm does in NumPy."""
    rows, rate, momentum, tries = 12, 0.05, 0.9, 6
    rng = np.random.default_rng(4)
    start, rated = rng.standard_normal((rows, 1)), rng.integers(0, rows, 80)
    value, velocity = start.copy(), np.zeros((rows, 1))
    for step, i in enumerate(rated):
        i = philox.draw((3, 1, step), 0, rows) if beside == "drawn" else i
        for made in range(1, tries + 1):
            number = philox.draw((3, 0, step), made - 1, rows)
            violation = 0.2 - value[i, 0] + value[number, 0]
            if violation > 0:
                break
        gradient = np.zeros((rows, 1))
        if violation > 0:
            gradient[number] += 2 * violation
            gradient[i] -= 2 * violation
        velocity = momentum * velocity + gradient
        value = value - rate * velocity
    for run in (True, False):
        items, item = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
        sample, other = wyrm.SampledIndexNode(rows, seed=3), wyrm.SampledIndexNode(rows, seed=3)
        read = items.index(sample)
        violated = (0.2 + read - items.index(other if beside == "drawn" else item)).redraw(sample, tries)
        loss = violated.relu().square() + items.index(item) * 0.0
        optimizer = SGD(rate, [items], momentum=momentum)
        if run:
            wyrm.fit(loss, {item: rated}, optimizer, shuffle=False)
        else:
            for i in rated:
                item.set_value(i)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        np.testing.assert_allclose(items.value, value, rtol=1e-9, atol=1e-12)


def test_a_sequence_draws_for_one_position_at_a_time(backend):
    """Every position has its draw, with a body of its own; what the positions share is computed once, before."""
    rng = np.random.default_rng(2)
    table = wyrm.ParameterNode(rng.standard_normal((30, 5)), dtype="float64")
    inputs = [wyrm.IndexInputNode(1, n) for n in range(6)]
    hidden = nn.EWMA(5, rng=1, dtype="float64").forward([table.index(i) for i in inputs])
    samples = [wyrm.SampledIndexNode(30, seed=11) for _ in hidden]
    losses = [
        nn.losses.warp(h.vector_dot(table.index(i)), h.vector_dot(table.index(s)), s, tries=4)
        for h, i, s in zip(hidden[:-1], inputs[1:], samples, strict=False)
    ]
    loss = wyrm.stack(losses).scalar_sum()
    loss.forward()
    total = 0.0
    for stream, (h, i) in enumerate(zip(hidden[:-1], inputs[1:], strict=False)):
        scores = table.value @ h.value[0]
        for made in range(1, 5):
            number = philox.draw((11, stream, 0), made - 1, 30)
            violation = 1 - scores[i.value[0, 0]] + scores[number]
            if violation > 0:
                break
        assert samples[stream].value[0, 0] == number
        total += max(0.0, violation) * np.log(29 // made)
    np.testing.assert_allclose(loss.value[0, 0], total, rtol=1e-12)
    bodies = [[i.kernel for i in draw.body] for draw in draws_in(loss)]
    assert len(bodies) == 5
    assert all(sorted(body) == ["add", "gather", "multiply", "sum"] for body in bodies), bodies


def test_batches_draw_for_each_example_its_own(backend):
    """Summed over several runs a step, by shards on any number of threads: the numbers are those of steps one by one."""
    counts, x, sample = wyrm.ParameterNode(np.zeros((30, 1))), wyrm.InputNode((1, 1)), wyrm.SampledIndexNode(30, seed=5)
    redrawn = (numbers(30).index(sample) - x).redraw(sample, 4)
    loss = counts.index(sample) + redrawn * 0.0
    limits = np.random.default_rng(1).integers(0, 30, 50)
    expected = np.zeros(30)
    for example, limit in enumerate(limits):
        tried = [philox.draw((5, 0, example), n, 30) for n in range(4)]
        expected[next((number for number in tried if number > limit), tried[-1])] += 1
    threads = [1, 2] if "synchronized" in wyrm.get_backend(backend).capabilities.schedules else [1]
    for options in ({"num_threads": 1}, *({"schedule": "synchronized", "num_threads": n} for n in threads)):
        counts.set_value(np.zeros((30, 1)))
        wyrm.fit(loss, {x: limits}, SGD(1.0, [counts]), batch_size=8, progress=False, **options)
        np.testing.assert_array_equal(-counts.value[:, 0], expected)


def test_drawn_rows_are_in_nobodys_block(backend):
    """What a draw reads, in its body as well, may be any row: such a model cannot be trained free of conflicts."""
    items, item = wyrm.ParameterNode(np.zeros((100, 4))), wyrm.IndexInputNode()
    sample = wyrm.SampledIndexNode(100)
    read = (items.index(sample).detach().sum() + 1.0).redraw(sample, 2)
    loss = items.index(item).square().sum() + read
    options = {"num_threads": 2, "schedule": "conflict_free", "progress": False}
    with pytest.raises(wyrm.WyrmError, match="conflict_free.*other than by looking up one row"):
        wyrm.fit(loss, {item: np.arange(100)}, SGD(0.1, [items]), **options)


# -- what is run again


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


# -- errors


def test_tables_that_are_too_small():
    table, columns = numbers(9), wyrm.InputNode((1, 9))
    sample = wyrm.SampledIndexNode(10, name="noise")
    with pytest.raises(
        wyrm.OutOfRangeError, match=r"'noise': draws numbers below 10, which look up ParameterNode \(9, 1\).*at most 9"
    ):
        table.index(sample)
    with pytest.raises(wyrm.OutOfRangeError, match="below 10.*at most 9"):
        columns.pick(sample)
    with pytest.raises(wyrm.DTypeError, match="BagInputNode"):
        table.index_sum(sample)
    bag = wyrm.BagInputNode(1, [[10]])
    with pytest.raises(wyrm.OutOfRangeError, match="below 10"):
        wyrm.SampledIndexNode(10, exclude=bag)


def test_bad_samples():
    for rows in (0, -1, 2.0, True, "10", 2**31 + 1, None):
        with pytest.raises(wyrm.OptionError, match="how many numbers to draw from"):
            wyrm.SampledIndexNode(rows)
    for count in (-1, 1.5, True):
        with pytest.raises(wyrm.ShapeError, match="numbers to draw"):
            wyrm.SampledIndexNode(5, count)
    with pytest.raises(wyrm.OptionError, match="numbers to draw"):
        wyrm.SampledIndexNode(5, 2**30)
    for seed in (-1, 1.5, 2**63, True):
        with pytest.raises(wyrm.OptionError, match="SampledIndexNode.*seed"):
            wyrm.SampledIndexNode(5, seed=seed)
    with pytest.raises(wyrm.DTypeError, match="BagInputNode"):
        wyrm.SampledIndexNode(5, exclude=[1, 2])
    with pytest.raises(wyrm.ShapeError, match="one bag of excluded numbers, or 4.*got 3"):
        wyrm.SampledIndexNode(5, 4, exclude=wyrm.BagInputNode(3))
    sample = wyrm.SampledIndexNode(5, exclude=wyrm.BagInputNode(1, name="seen"))
    with pytest.raises(wyrm.MissingValueError, match="'seen'"):
        sample.forward()
    with pytest.raises(wyrm.DTypeError, match="copied"):
        copy.copy(sample)


def test_bad_frequencies():
    for counts, error in (
        ([], wyrm.ShapeError),
        ([[1.0]], wyrm.ShapeError),
        (3.0, wyrm.ShapeError),
        (["a"], wyrm.DTypeError),
        ([1, -1], wyrm.OptionError),
        ([1, np.nan], wyrm.OptionError),
        ([np.inf, 1], wyrm.OptionError),
        ([0, 0], wyrm.OptionError),
    ):
        with pytest.raises(error, match="Frequencies"):
            wyrm.Frequencies(counts)
    for power in (np.nan, "1", None, True):
        with pytest.raises(wyrm.OptionError, match="power"):
            wyrm.Frequencies([1, 2], power)


def test_bad_redraws():
    table, index = numbers(10), wyrm.IndexInputNode(1, 1)
    sample = wyrm.SampledIndexNode(10, name="negative")
    node = table.index(sample)
    for tries in (0, -1, 1.0, True, 2**16 + 1, "3"):
        with pytest.raises(wyrm.OptionError, match="'negative'.*tries from 1 to 65536"):
            node.redraw(sample, tries)
    for _ in range(2):
        with pytest.raises(wyrm.OptionError, match=r"index \(1, 1\) does not depend on SampledIndexNode 'negative'"):
            table.index(index).redraw(sample, 3)
    with pytest.raises(wyrm.DTypeError, match="expected a SampledIndexNode"):
        node.redraw(index, 3)
    with pytest.raises(wyrm.ShapeError, match="shape"):
        table.redraw(sample, 3)
    several = wyrm.SampledIndexNode(10, 2)
    with pytest.raises(wyrm.ShapeError, match="shape"):
        table.index(several).sum().redraw(several, 3)
    with pytest.raises(wyrm.DTypeError, match="rank: expected the result of redraw"):
        node.rank()
    node.redraw(sample, 3)
    node.redraw(sample, 3)  # the same again is no other node
    with pytest.raises(
        wyrm.OptionError, match=r"'negative' is drawn until index .* positive already, and cannot be until square"
    ):
        node.square().redraw(sample, 3)


def test_row_numbers_are_no_real_numbers():
    """Neither numbers that are drawn nor those that are given, nor bags, are computed with."""
    x = wyrm.InputNode((1, 1), 1.0)
    for node in (wyrm.SampledIndexNode(5), wyrm.IndexInputNode(1, 3), wyrm.BagInputNode(1, [[1]])):
        for use in (
            lambda n: n + 1.0,
            lambda n: x * n,
            lambda n: n.square(),
            lambda n: n.sum(),
            lambda n: n.index(wyrm.IndexInputNode()),
        ):
            with pytest.raises(wyrm.DTypeError, match="row numbers|operands"):
                use(node)
        with pytest.raises(wyrm.DTypeError, match="row numbers"):
            wyrm.evaluate(node, {})
