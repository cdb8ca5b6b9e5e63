"""Numbers that are drawn: how often, which never, the same everywhere; and what cannot be drawn."""

import copy
import pickle

import numpy as np
import pytest
from conftest import is_native
from ranking import drawn, numbers

import wyrm
from wyrm import philox
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


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


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_draws_from_what_is_left_are_by_the_same_weights(backend, dtype):
    """A chi-squared test, where no attempt is likely to come to what is left; from a bag that names numbers twice."""
    counts = np.array([50_000, 0, 1, 3, 50_000, 2, 6])
    bag = np.array([4, 0, 0, 4, 1, 4], dtype)
    draws = 6000 if is_native() else 1200
    sample = wyrm.SampledIndexNode(wyrm.Frequencies(counts, 1.0), draws, exclude=wyrm.BagInputNode(1, [bag]), seed=7)
    observed = np.bincount(drawn(sample), minlength=7)
    expected = np.where(np.isin(np.arange(7), bag), 0, counts) / 12 * draws
    assert (observed[expected == 0] == 0).all()
    assert (((observed - expected) ** 2)[expected > 0] / expected[expected > 0]).sum() < 3 + 4 * np.sqrt(6)
    everything_but = wyrm.BagInputNode(1, [np.setdiff1d(np.arange(500), [0, 63, 64, 499])])
    observed = np.bincount(drawn(wyrm.SampledIndexNode(500, draws, exclude=everything_but, seed=8)), minlength=500)
    assert observed.sum() == observed[[0, 63, 64, 499]].sum() == draws
    assert (abs(observed[[0, 63, 64, 499]] - draws / 4) < 2.4 * np.sqrt(draws)).all()


def test_a_pass_that_has_nothing_to_draw(backend):
    """Its value is 0, and its gradient; whatever is made of a number; all is excluded, or all that has weight."""
    for rows, bag in ((5, range(5)), (wyrm.Frequencies([0, 1, 1, 0, 2]), [1, 4, 2])):
        table, exclude = wyrm.ParameterNode(np.arange(1.0, 6.0).reshape(5, 1)), wyrm.BagInputNode(1, [list(bag)])
        sample = wyrm.SampledIndexNode(rows, exclude=exclude, seed=7)
        for redrawn in (False, True):
            score = table.index(sample)
            loss = (score.redraw(sample, 3) if redrawn else score).exp()
            loss.forward()
            assert loss.value[0, 0] == 0
            loss.backward(2.0)
            assert not table.gradient.to_dense().any()
            exclude.set_value([[1, 4]])
            loss.forward()
            assert loss.value[0, 0] > 0
            table.zero_gradient()
            exclude.set_value([list(bag)])


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
