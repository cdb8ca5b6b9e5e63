"""Models given as functions: traced once for each structure, and trained as graphs rebuilt for each example would be."""

from itertools import pairwise

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.optim import SGD, Adam


class Tagger:
    """An LSTM over sequences of any length that predicts a class, with a bag and dense features beside them."""

    def __init__(self, dtype="float64"):
        rng = np.random.default_rng(11)
        self.dtype = dtype
        self.embedding = nn.Embedding(7, 3, rng=rng, dtype=dtype)
        self.lstm = nn.lstm.Parameters(3, 4, rng=rng, dtype=dtype).build()
        self.linear = nn.Linear(4, 5, rng=rng, dtype=dtype)
        self.tags = wyrm.ParameterNode(rng.normal(0, 0.3, (6, 5)), dtype=dtype)
        self.mix = wyrm.ParameterNode(rng.normal(0, 0.3, (2, 5)), dtype=dtype)
        layers = (self.embedding, self.lstm.cell.shared, self.linear)
        self.parameters = [*(p for layer in layers for p in layer.parameters()), self.tags, self.mix]
        self.calls = 0

    def logits(self, words, tags, features):
        hidden = self.lstm.forward([self.embedding.forward(word) for word in words])
        return self.linear.forward(hidden[-1]) + self.tags.index_sum(tags) + features.dot(self.mix)

    def losses(self, words, tags, features, answer):
        """A row for each example."""
        self.calls += 1
        logits = self.logits(words, tags, features)
        return nn.losses.sparse_categorical_crossentropy(logits, answer, reduction="none")


def tagger_data(rng, n=40, lengths=(1, 5)):
    return {
        "words": wyrm.Ragged.of([rng.integers(0, 7, rng.integers(*lengths)) for _ in range(n)]),
        "tags": wyrm.Bags.from_lists([rng.integers(0, 6, rng.integers(0, 4)) for _ in range(n)]),
        "features": rng.standard_normal((n, 2)),
        "answer": rng.integers(0, 5, n),
    }


def example_loss(model, data, e):
    """The loss of an example as a graph of its own, and its inputs set."""
    words = [wyrm.IndexInputNode(1, w) for w in data["words"].to_lists()[e]]
    tags = wyrm.BagInputNode(1, [data["tags"].to_lists()[e]])
    features = wyrm.InputNode((1, 2), data["features"][e : e + 1], dtype=model.dtype)
    return model.losses(words, tags, features, wyrm.IndexInputNode(1, int(data["answer"][e])))


def same(a, b, rtol=1e-9):
    for p, q in zip(a.parameters, b.parameters, strict=True):
        np.testing.assert_allclose(p.value, q.value, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("make", [lambda p: SGD(0.1, p), lambda p: Adam(0.01, p, weight_decay=0.01, clip_norm=1.0)])
def test_equals_graphs_rebuilt_for_each_example(backend, rng, make):
    data = tagger_data(rng)
    fitted, stepped = Tagger(), Tagger()
    history = wyrm.fit(fitted.losses, data, make(fitted.parameters), num_epochs=3, seed=5)
    optimizer, means = make(stepped.parameters), []
    for epoch in (1, 2, 3):
        total = 0.0
        for e in np.random.default_rng([5, 0, epoch]).permutation(40):
            loss = example_loss(stepped, data, e)
            loss.forward()
            total += float(loss.value[0, 0])
            loss.backward(1.0)
            optimizer.step()
        means.append(total / 40)
    np.testing.assert_allclose(history.losses, means, rtol=1e-9)
    same(fitted, stepped)
    assert fitted.calls == len(set(data["words"].lengths.tolist()))


@pytest.mark.parametrize(
    ("reduction", "rows", "batch_size"), [("mean", 1, 3), ("mean", 4, 1), ("mean", 3, 2), ("mean", 100, 1), ("sum", 3, 2)]
)
def test_steps_of_several_examples(backend, rng, reduction, rows, batch_size):
    """Whichever examples share a run: a step takes the mean of single gradients, or their sum; the last ones are fewer."""
    data = tagger_data(rng, 23, (2, 4))
    fitted, stepped = Tagger(), Tagger()
    options = {"rows": rows, "batch_size": batch_size, "reduction": reduction, "shuffle": False}
    history = wyrm.fit(fitted.losses, data, SGD(0.05, fitted.parameters), **options)
    assert history[0].examples == 23
    runs = []
    for length in (2, 3):
        examples = np.flatnonzero(data["words"].lengths == length)
        runs += [examples[n : n + rows] for n in range(0, len(examples), rows)]
    runs.sort(key=lambda examples: examples[0])
    optimizer, total = SGD(0.05, stepped.parameters), 0.0
    for start in range(0, len(runs), batch_size):
        batch = np.concatenate(runs[start : start + batch_size])
        for e in batch:
            loss = example_loss(stepped, data, e)
            loss.forward()
            total += float(loss.value[0, 0])
            loss.backward(1.0 if reduction == "sum" else 1 / len(batch))
        optimizer.step()
    np.testing.assert_allclose(history.losses, [total / 23], rtol=1e-9)
    same(fitted, stepped)


def test_last_shorter_runs_are_traced_once_for_each_structure(rng):
    data = tagger_data(rng, 23, (2, 4))
    counts = np.bincount(data["words"].lengths)[2:].tolist()
    model = Tagger()
    options = {"rows": 3, "num_epochs": 2, "validation": data, "weights": np.ones(23), "backend": "reference"}
    wyrm.fit(model.losses, data, SGD(0.05, model.parameters), **options)
    assert model.calls == sum(int(count >= 3) + int(count % 3 > 0) for count in counts)


def test_sequences_of_real_numbers(backend, rng):
    """Positions of dense rows, of single numbers, and of several indices; whole numbers as real ones."""
    lengths = rng.integers(1, 4, 15)
    offsets = np.concatenate([[0], np.cumsum(lengths)]) + 2  # the first two values belong to nobody
    total = int(lengths.sum())
    wide, narrow = rng.standard_normal((total + 2, 3)), rng.standard_normal(total + 5).astype(np.float32)
    pairs, counts = rng.integers(0, 4, (total + 2, 2)), rng.integers(0, 9, total + 2, dtype=np.int32)
    wide[:2] = np.nan
    table = wyrm.ParameterNode(rng.standard_normal((4, 3)), dtype="float64")

    def score(wide, narrow, pairs, counts):
        terms = [
            (w * n + c).sum() + (table.index(p) * w).scalar_sum()
            for w, n, p, c in zip(wide, narrow, pairs, counts, strict=True)
        ]
        return sum(terms)

    feed = {
        "wide": wyrm.Ragged(wide, offsets),
        "narrow": wyrm.Ragged(narrow, offsets),
        "pairs": wyrm.Ragged(pairs, offsets),
        "counts": wyrm.Ragged(wyrm.Dense(counts), offsets),
    }
    each = (wide * narrow[: total + 2, None] + counts[:, None]).sum(1) + (table.value[pairs] * wide[:, None]).sum((1, 2))
    expected = [each[a:b].sum() for a, b in pairwise(offsets)]
    found = wyrm.evaluate(score, feed, dtype="float64")
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-6)


def test_evaluate_in_order(backend, rng):
    """Several nodes, by rows and one by one, on one thread and two, with bags, in the order of the examples."""
    data, model = tagger_data(rng, 30), Tagger()
    del data["answer"]

    def outputs(words, tags, features):
        logits = model.logits(words, tags, features)
        return logits, logits.softmax().sum(axis=1)

    singles = []
    for e in range(30):
        words = [wyrm.IndexInputNode(1, w) for w in data["words"].to_lists()[e]]
        tags = wyrm.BagInputNode(1, [data["tags"].to_lists()[e]])
        logits = model.logits(words, tags, wyrm.InputNode((1, 2), data["features"][e : e + 1], dtype="float64"))
        singles.append(logits.value)
    for options in ({}, {"rows": 4}, {"rows": 4, "num_threads": 2}, {"rows": 64}):
        logits, ones = wyrm.evaluate(outputs, data, dtype="float64", **options)
        assert logits.shape == (30, 1, 5) and ones.shape == (30, 1, 1)
        np.testing.assert_allclose(logits, singles, rtol=1e-12)
        np.testing.assert_allclose(ones, np.ones((30, 1, 1)))
    alone = wyrm.evaluate(model.logits, data, dtype="float64")
    np.testing.assert_array_equal(alone, wyrm.evaluate(model.logits, data, dtype="float64", num_threads=2))


def test_matrices_and_dropout_in_functions(backend, rng):
    """Matrices for each example; what is random is off in evaluation, and its numbers come from the seed in training."""
    values = rng.standard_normal((6, 2, 3))
    np.testing.assert_array_equal(
        wyrm.evaluate(lambda x: x.dropout(0.5) * 2.0, {"x": values}, dtype="float64", rows=4), values * 2
    )
    losses = []
    for seed in (1, 1, 2):
        w = wyrm.ParameterNode(np.ones((2, 3)), dtype="float64")
        history = wyrm.fit(lambda x, w=w: (x * w).dropout(0.5).scalar_sum(), {"x": values}, SGD(0.1, [w]), seed=seed)
        losses.append(history.losses[0])
    assert losses[0] == losses[1] != losses[2]


def regression(dtype="float64"):
    slope, intercept = wyrm.ParameterNode(0.5, dtype=dtype), wyrm.ParameterNode(0.0, dtype=dtype)

    def loss(x, y):
        return (y - (slope * x + intercept)).square()

    return loss, [slope, intercept]


@pytest.mark.parametrize("options", [{}, {"rows": 4}, {"batch_size": 4}, {"batch_size": 4, "schedule": "synchronized"}])
def test_weights(backend, rng, options):
    """Losses are multiplied with weights; the mean is that over the number of examples, whatever their weights."""
    x, y = rng.standard_normal(12), rng.standard_normal(12)
    weights = np.array([2.0, 0, 1] * 4)
    loss, parameters = regression()
    history = wyrm.fit(loss, {"x": x, "y": y}, SGD(0.1, parameters), weights=weights, shuffle=False, **options)
    a, b, total = 0.5, 0.0, 0.0
    size = max(options.get("rows", 1), options.get("batch_size", 1))
    for n in range(0, 12, size):
        part = slice(n, n + size)
        error = a * x[part] + b - y[part]
        total += (weights[part] * error**2).sum()
        a -= 0.1 * 2 * (weights[part] * error * x[part]).mean()
        b -= 0.1 * 2 * (weights[part] * error).mean()
    np.testing.assert_allclose([p.value[0, 0] for p in parameters], [a, b])
    np.testing.assert_allclose(history.losses, [total / 12])


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_of_all_runs_are_one_mean(backend, rng, weighted):
    """At a rate of 0, history, validation and evaluate agree, whatever rows, batches and the rows of an example are."""
    pairs, weights = rng.standard_normal((7, 2)), rng.uniform(0.5, 2, 7) if weighted else None
    w = wyrm.ParameterNode(0.5, dtype="float64")

    def loss(pairs):
        return (pairs.reshape(2 * pairs.shape[0], 1) * w - 1.0).square()

    each = ((pairs * 0.5 - 1) ** 2).sum(axis=1)
    np.testing.assert_allclose(wyrm.evaluate(loss, {"pairs": pairs}, rows=3, dtype="float64").sum(axis=(1, 2)), each)
    for options in ({}, {"rows": 3}, {"batch_size": 3}, {"rows": 2, "batch_size": 2}, {"rows": 3, "reduction": "sum"}):
        history = wyrm.fit(loss, {"pairs": pairs}, SGD(0.0, [w]), weights=weights, validation={"pairs": pairs}, **options)
        np.testing.assert_allclose(history.losses, [(each if weights is None else weights * each).mean()])
        np.testing.assert_allclose(history[0].metrics["validation_loss"], each.mean())


def test_a_function_that_sums_by_itself(backend):
    """Its sum is minimised as it stands if a sum is asked for, and shared out among the examples of a held-out run."""
    w, x = wyrm.ParameterNode(0.0, dtype="float64"), np.arange(1.0, 6.0)
    options = {"rows": 2, "reduction": "sum", "shuffle": False, "validation": {"x": x}}
    history = wyrm.fit(lambda x: (w * x + 1.0).scalar_sum(), {"x": x}, SGD(0.1, [w]), **options)
    np.testing.assert_allclose(w.value, -1.5)
    np.testing.assert_allclose(history.losses, [(5 - 0.3 * 7 - 1.0 * 5) / 5])
    np.testing.assert_allclose(history[0].metrics["validation_loss"], 1 - 1.5 * 3)


def test_weights_of_graphs(backend, rng):
    x, y = rng.standard_normal(5), rng.standard_normal(5)
    loss, parameters = regression()
    by_function = wyrm.fit(loss, {"x": x, "y": y}, SGD(0.1, parameters), weights=[1, 2, 0, 1, 3], seed=1)
    loss, others = regression()
    nodes = [wyrm.InputNode((1, 1), dtype="float64") for _ in range(2)]
    feed = dict(zip(nodes, (x, y), strict=True))
    by_graph = wyrm.fit(loss(*nodes), feed, SGD(0.1, others), weights=[1, 2, 0, 1, 3], seed=1, validation=feed)
    assert by_graph.losses == by_function.losses
    error = others[0].value[0, 0] * x + others[1].value[0, 0] - y
    np.testing.assert_allclose(by_graph[0].metrics["validation_loss"], (error**2).mean())


@pytest.mark.parametrize("rows", [1, 4])
def test_validation(backend, rng, rows):
    """The mean loss after each epoch, without dropout and weights, for rows that stay and for a loss that is summed."""
    x, y, held_x, held_y = rng.standard_normal((4, 10))
    _, (slope, intercept) = regression()
    means = []

    def note(epoch):
        means.append(((slope.value[0, 0] * held_x + intercept.value[0, 0] - held_y) ** 2).mean())

    def kept(x, y):
        return (y - (slope * x + intercept).dropout(0.3)).square()

    def summed(x, y):
        return kept(x, y).scalar_sum()

    for loss in (kept, summed):
        history = wyrm.fit(
            loss,
            {"x": x, "y": y},
            Adam(0.05, [slope, intercept], weight_decay=0.1),
            num_epochs=3,
            rows=rows,
            reduction="sum",
            validation={"x": held_x, "y": held_y},
            callbacks=[note],
        )
        np.testing.assert_allclose([epoch.metrics["validation_loss"] for epoch in history], means)
        means.clear()


def test_validation_with_rows_that_are_behind(backend, rng):
    """Rows that missed steps of momentum and weight decay are caught up before they are validated."""
    table, means = wyrm.ParameterNode(rng.standard_normal((6, 1)), dtype="float64"), []
    feed = {"row": np.array([0, 1, 1, 2]), "y": np.ones(4)}

    def loss(row, y):
        return (table.index(row) - y).square()

    optimizer = SGD(0.1, [table], momentum=0.5, weight_decay=0.2)
    held_out = {"row": np.arange(6), "y": np.zeros(6)}
    note = lambda epoch: means.append((table.value**2).mean())
    history = wyrm.fit(loss, feed, optimizer, num_epochs=3, validation=held_out, callbacks=[note])
    np.testing.assert_allclose([epoch.metrics["validation_loss"] for epoch in history], means)


def test_parameters_that_some_structures_lack(backend, rng):
    """Rows that miss steps of weight decay and momentum are caught up, whichever structures the steps were of."""
    lengths = rng.integers(0, 3, 30)
    values = rng.integers(0, 5, int(lengths.sum()))
    feed = {"words": wyrm.Ragged(values, np.concatenate([[0], np.cumsum(lengths)])), "y": rng.standard_normal(30)}
    results = []
    for native in (True, False):
        table = wyrm.ParameterNode(np.ones((5, 2)), dtype="float64")
        bias = wyrm.ParameterNode(0.5, dtype="float64")

        def loss(words, y, table=table, bias=bias):
            return (sum((table.index(word).scalar_sum() for word in words), start=bias) - y).square()

        optimizer = SGD(0.05, [table, bias], momentum=0.9, weight_decay=0.1)
        if native:
            wyrm.fit(loss, feed, optimizer, shuffle=False)
        else:
            for words, y in zip(feed["words"].to_lists(), feed["y"], strict=True):
                node = loss([wyrm.IndexInputNode(1, w) for w in words], wyrm.InputNode((1, 1), y, dtype="float64"))
                node.forward()
                node.backward(1.0)
                optimizer.step()
        results.append((table.value.copy(), bias.value.copy()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-9)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-9)


def test_learning_rates_by_step_and_two_optimizers(backend, rng):
    """Schedules go by steps, over structures, rows and batches."""
    data = tagger_data(rng, 20, (1, 4))
    rate = wyrm.optim.schedules.cosine(0.2, 12)
    fitted, stepped = Tagger(), Tagger()

    def optimizers(model):
        rest = [p for p in model.parameters if p is not model.tags]
        return [SGD(rate, rest, momentum=0.5), SGD(rate, [model.tags], weight_decay=0.2)]

    wyrm.fit(fitted.losses, data, optimizers(fitted), batch_size=4, num_epochs=2, shuffle=False)
    pair = optimizers(stepped)
    for _ in range(2):
        for start in range(0, 20, 4):
            for e in range(start, start + 4):
                loss = example_loss(stepped, data, e)
                loss.forward()
                loss.backward(0.25)
            for optimizer in pair:
                optimizer.step()
        for parameter in stepped.parameters:
            assert parameter.value.size  # looked at, so caught up at this rate: fit does so after each epoch
    same(fitted, stepped)


def test_a_loss_that_is_not_finite_names_its_example(backend):
    """Of several examples in a run, the first, and says so; updates before it have been made."""
    values = np.ones(10)
    values[7] = np.inf
    for rows, example in ((1, "example 7 is"), (4, "example 4 is.*share a run")):
        w = wyrm.ParameterNode(0.0)
        with pytest.raises(wyrm.NotFiniteError, match=f"epoch 1: the loss of {example}"):
            wyrm.fit(lambda x, w=w: w * x + x, {"x": values}, SGD(0.5, [w]), rows=rows, shuffle=False, num_threads=1)
        assert w.value == -0.5 * (7 if rows == 1 else 1)
