"""Numbers that are drawn again until a node is positive: WARP, in steps, runs, sequences and batches."""

import numpy as np
import pytest
from ranking import by_steps, draws_in, numbers, ranking

import wyrm
from wyrm import nn, philox
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


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
        factor = 2 * (np.log1p(max(1, 39 // made)) if by_rank else 1) * (violations[last] > 0)
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
            by_steps(loss, {user: chosen, item: rated}, optimizer)
        results.append((users.value.copy(), items.value.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_excluded_numbers_do_not_end_draws(backend, rng, dtype):
    """From bags of any length, of steps and of runs, some of them shared: such a number counts as a draw, never as the last."""
    rows, tries = 40, 4
    bags = [rng.choice(rows, size=n, replace=False).astype(dtype) for n in (0, 1, 7, 8, 9, 17, 33, 40)]
    taken = rng.integers(0, len(bags), 60)
    expected = []
    for step, bag in enumerate(taken):
        tried = [philox.draw((9, 0, step), n, rows) for n in range(tries - 1)]
        tried.append(philox.draw((9, 0, step), tries - 1, rows, None, bags[bag].tolist()))  # of what is not excluded
        if None in tried:
            expected.append(None)
            continue
        ends = [n for n in tried if n > 20 and n not in bags[bag]]
        expected.append(ends[0] - 20.0 if ends else tried[-1] - 20.0)
    assert {value > 0 for value in expected if value is not None} == {True, False} and None in expected
    shift, seen = wyrm.ParameterNode(0.0), wyrm.BagInputNode()
    sample = wyrm.SampledIndexNode(rows, exclude=seen, seed=9)
    redrawn = (numbers(rows).index(sample) - 20.0).redraw(sample, tries)
    loss, optimizer = redrawn + shift * 0.0, SGD(0.1, [shift])
    for value, bag in zip(expected, taken, strict=True):
        seen.set_value(bags[bag])
        loss.forward()
        assert loss.value[0, 0] == (value or 0)
        assert value is None or redrawn.value[0, 0] == value
        loss.backward(1.0)
        optimizer.step()
    feed = {seen: wyrm.Bags.from_lists(bags).take(taken)}
    history = wyrm.fit(loss, feed, SGD(0.1, [shift]), shuffle=False, num_threads=1)
    assert history.losses[0] == pytest.approx(np.mean([value for value in expected if value is not None]))
    assert history[0].skipped == expected.count(None)


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
            wyrm.fit(loss, {item: rated}, optimizer, shuffle=False, num_threads=1)
        else:
            by_steps(loss, {item: rated}, optimizer)
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
        total += max(0.0, violation) * np.log1p(29 // made)
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
        wyrm.fit(loss, {x: limits}, SGD(1.0, [counts]), batch_size=8, reduction="sum", progress=False, **options)
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


def test_ranks_of_several_samples_are_told_apart_in_a_step(backend):
    scores = np.linspace(0, 2, 20)[:, None]
    items = wyrm.ParameterNode(scores, dtype="float64")
    indices = [wyrm.IndexInputNode(1, [17]), wyrm.IndexInputNode(1, [9])]
    samples = [wyrm.SampledIndexNode(20, seed=seed) for seed in (0, 3)]
    ends = [(items.index(s) - items.index(i)).redraw(s, tries=100) for s, i in zip(samples, indices, strict=True)]
    ranks = [end.rank() for end in ends]
    loss = ends[0] * ranks[0] + ends[1] * ranks[1]
    loss.forward()
    factors = [rank.value[0, 0] for rank in ranks]
    assert factors[0] != factors[1]
    for factor, sample, positive in zip(factors, samples, (17, 9), strict=True):
        scores[sample.value[0, 0]] -= 0.01 * factor
        scores[positive] += 0.01 * factor
    feed = {index: index.value.reshape(1) for index in indices}
    wyrm.fit(loss, feed, SGD(0.01, [items]), num_threads=1)
    np.testing.assert_allclose(items.value, scores, rtol=1e-12)
