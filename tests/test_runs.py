"""Runners of several programs, batches, teams and runs of several examples: native ones mean what those in Python mean."""

import threading
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from structures import Plain, TwoStructures

import wyrm
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.frontend.op import PARAMETER
from wyrm.memory import BagSource, GradientBuffer, Memory, Report, Sink, Source
from wyrm.program import Buffer
from wyrm.runs import shard_ends
from wyrm.training.runners import Part, Worker
from wyrm.training.synchronized import Synchronized


def nothing(done):
    pass


def identical(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.tobytes() == y.tobytes()


def clipped(rate, parameters):
    return wyrm.optim.SGD(rate, parameters, clip_norm=0.5)


def by_worker(model, backend, batch_size, joined_by=None, slices=(57,)):
    work = model.work(backend, batch_size, joined_by)
    worker = Worker(work.backend, work.parts, work.update(1), batch_size)
    start = 0
    choice = model.choice[model.order[:, 0]]
    for length in slices:
        worker.run(model.order, choice, start, min(start + length, model.examples))
        start += length
    return worker


@pytest.mark.parametrize("batch_size", [1, 8, 19, 100])
@pytest.mark.parametrize("optimizer", [wyrm.optim.Adagrad, clipped, partial(wyrm.optim.SGD, momentum=0.9)])
def test_joined_runs_mean_what_they_mean_in_python(backend, batch_size, optimizer):
    """To the bit, with a learning rate of its own for each batch, also where slices end within a batch."""
    chosen = wyrm.get_backend()
    ends = []
    for joined_by, slices in ((Plain(chosen), (57,)), (chosen, (57,)), (chosen, (5, 1, 30, 21))):
        model = TwoStructures(optimizer=optimizer, rate=lambda step: 0.1 / (1 + step))
        worker = by_worker(model, chosen, batch_size, joined_by, slices)
        assert (worker.examples, worker.steps) == (57, -(-57 // batch_size))
        ends.append([*model.values, np.array(worker.runner.loss)])
    identical(ends[0], ends[1])
    identical(ends[0], ends[2])


@pytest.mark.parametrize("batch_size", [1, 8, 57])
@pytest.mark.parametrize("optimizer", [wyrm.optim.Adagrad, clipped])
def test_batches_equal_steps_after_several_backward_passes(backend, batch_size, optimizer):
    """The last batch is shorter."""
    chosen = wyrm.get_backend()
    fitted, stepped = (TwoStructures(dtype="float64", optimizer=optimizer) for _ in range(2))
    worker = by_worker(fitted, chosen, batch_size)
    total = 0.0
    for start in range(0, 57, batch_size):
        for example in stepped.order[start : start + batch_size, 0]:
            loss = stepped.loss_of(example)
            loss.forward()
            total += float(loss.value[0, 0])
            loss.backward(1.0)
        stepped.optimizer.step()
    np.testing.assert_allclose(worker.runner.loss, total, rtol=1e-11)
    for a, b in zip(fitted.values, stepped.values, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [wyrm.optim.Adagrad, clipped])
def test_a_team_means_what_it_means_in_python(backend, optimizer):
    """To the bit, for any number of threads, more than there are cores among them."""
    chosen = wyrm.get_backend()
    native = "synchronized" in chosen.capabilities.schedules
    ends = []
    for threads, joined_by in [(1, Plain(chosen)), *((n, chosen) for n in ((1, 2, 4) if native else (1,)))]:
        model = TwoStructures(optimizer=optimizer, rate=lambda step: 0.1 / (1 + step))
        crew = Synchronized(model.work(chosen, 16, joined_by), threads, shards=5)
        choice = model.choice[model.order[:, 0]]
        for _ in range(2):
            crew.run_epoch(model.order, choice, nothing)
        assert sum(crew.examples) == 2 * 57 and crew.steps == 2 * 4
        ends.append([*model.values, np.array(crew.loss)])
    for end in ends[1:]:
        identical(ends[0], end)


def test_a_failing_shard_applies_nothing_of_its_batch(backend):
    """Whoever takes it; the first failing shard is named, and everybody comes back."""
    chosen = wyrm.get_backend()
    for threads in (1, 2, 4) if "synchronized" in chosen.capabilities.schedules else (1,):
        model, before = TwoStructures(), TwoStructures()
        choice = model.choice[model.order[:, 0]]
        bad = [40, 44]
        for m in (model, before):
            m.order = np.arange(57, dtype=np.int64).reshape(-1, 1)
        choice = model.choice
        for example in bad:
            feed = model.feeds[choice[example]]
            node = next(n for n in feed if type(n) is wyrm.InputNode)
            feed[node] = feed[node].copy()
            feed[node][example] = 1e30
        crew = Synchronized(model.work(chosen, 16), threads, shards=4)
        with pytest.raises(wyrm.NotFiniteError, match="example 40"):
            crew.run_epoch(model.order, choice, nothing)
        assert crew.team.failed == 2  # of runs 32 to 47
        reference = Synchronized(before.work(chosen, 16), 1, shards=4)
        reference.run(before.order, choice, 0, 32, nothing)
        identical(model.values, before.values)
        assert crew.loss == reference.loss and crew.steps == 2 == reference.steps


def test_an_update_that_fails_ends_the_run(backend):
    """Its rates are those of four batches; the steps of these have been made."""
    chosen = wyrm.get_backend()
    model, before = (TwoStructures(optimizer=wyrm.optim.Adagrad, rate=lambda step: 0.1 / (1 + step)) for _ in range(2))
    work = model.work(chosen, 8)
    update = work.update(1)
    short = replace(update, sources=[replace(source, array=source.array[:4]) for source in update.sources])
    worker = Worker(work.backend, work.parts, short, 8)
    with pytest.raises(wyrm.BackendError):
        worker.run(model.order, model.choice[model.order[:, 0]], 0, 57)
    assert worker.runner.failed == len(work.parts)
    by_worker(before, chosen, 8, slices=(32,))
    identical(model.values, before.values)


def test_room_is_made_for_long_bags(backend):
    """In the midst of batches, again and again; the result is that of enough room from the beginning."""
    chosen = wyrm.get_backend()
    rng = np.random.default_rng(3)
    lengths = (np.arange(60) % 7) ** 3
    bags = wyrm.Bags(rng.integers(0, 40, lengths.sum()), np.concatenate([[0], lengths.cumsum()]))
    ends = []
    for schedule, threads in (("hogwild", 1), ("synchronized", 1), ("synchronized", 4)):
        if threads > 1 and "synchronized" not in chosen.capabilities.schedules:
            continue
        table = wyrm.ParameterNode(np.ones((40, 3)), dtype="float64")
        bag = wyrm.BagInputNode(1)
        loss = (table.index_sum(bag) * 1e-3).tanh().scalar_sum()
        optimizer = wyrm.optim.SGD(0.1, [table], clip_norm=1.0)
        options = {"shuffle": False, "batch_size": 30, "schedule": schedule, "num_threads": threads}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores
            history = wyrm.fit(loss, {bag: bags}, optimizer, num_epochs=2, **options)
        ends.append((table.value.copy(), history.losses))
    reference, bag = wyrm.ParameterNode(np.ones((40, 3)), dtype="float64"), wyrm.BagInputNode(1)
    loss = (reference.index_sum(bag) * 1e-3).tanh().scalar_sum()
    optimizer = wyrm.optim.SGD(0.1, [reference], clip_norm=1.0)
    for _ in range(2):
        for e in range(60):
            bag.set_value([bags.take([e]).to_lists()[0]])
            loss.forward()
            loss.backward(1 / 30)
            if e % 30 == 29:
                optimizer.step()
    for value, losses in ends:
        np.testing.assert_allclose(value, reference.value, rtol=1e-11)
        np.testing.assert_allclose(losses, ends[0][1], rtol=1e-12)
    if len(ends) == 3:
        identical([ends[1][0]], [ends[2][0]])
        assert ends[1][1] == ends[2][1]


# --- runs of several examples ----------------------------------------------------------------------------------


def rows_model(rows, nodes):
    table, weight = nodes
    index, x, bag = wyrm.IndexInputNode(2 * rows), wyrm.InputNode((rows, 3), dtype="float64"), wyrm.BagInputNode(rows)
    looked_up = table.index(index).reshape(rows, 10)
    hidden = (x.dot(weight) + looked_up[:, :5] * looked_up[:, 5:] + table.index_mean(bag)).tanh()
    return index, x, bag, hidden


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_a_run_of_several_examples_equals_single_ones(backend, dtype, rng):
    """Values into sinks, and gradients: of dense, index and bag inputs in whatever dtype they come."""
    chosen = wyrm.get_backend()
    table, weight = (wyrm.ParameterNode(rng.normal(size=shape), dtype="float64") for shape in ((9, 5), (3, 5)))
    n, examples = 23, np.array([[5, 2, 9], [9, 22, 0]], np.int64)
    xs = rng.integers(-3, 4, (n, 3)).astype(dtype)
    indices = rng.integers(0, 9, (n, 2)).astype("int32" if dtype.endswith("32") else "int64")
    lengths = rng.integers(1, 4, n)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    weights = rng.uniform(1, 2, lengths.sum()).astype("float32")
    source = BagSource(rng.integers(0, 9, lengths.sum()), offsets[:-1], offsets[1:], weights)
    found = {}
    for rows in (1, 3):
        *_, hidden = rows_model(rows, (table, weight))
        loss = hidden.scalar_sum()
        for purpose, root in (("evaluate", hidden), ("accumulate", loss)):
            traced, structures, _ = trace([root._structure])
            how = () if purpose == "evaluate" else (training(),) * 2
            program = lower(traced, purpose, chosen.capabilities.kernels, how)
            ordered = [
                Source(xs)
                if i.kind == "dense"
                else Source(indices)
                if i.kind == "index"
                else Source(offsets[:-1, None], bags=source)
                for i in program.inputs
            ]
            nodes = [structures[k] for k in traced.leaves(PARAMETER)]
            shared = {Buffer("value", p): s.live_parameter().storage.value for p, s in enumerate(nodes)}
            results = np.full((n, 5), np.nan)
            sinks = [Sink(results)] if purpose == "evaluate" else []
            part = Part(compiled(program, chosen), ordered, sinks, rows, shared)
            worker = Worker(chosen, [part], None, 6)
            order = examples if rows == 3 else examples.reshape(-1, 1)
            worker.run(order, None, 0, len(order))
            names = ["table" if s.live_parameter() is table else "weight" for s in nodes]
            if purpose == "evaluate":
                found[rows, "values"] = results
            else:
                for p, name in enumerate(names):
                    gradient = worker.gradients[p]
                    dense = np.zeros(gradient.shape)
                    np.add.at(dense, gradient.row_numbers[: gradient.count], gradient.row_values[: gradient.count])
                    found[rows, name] = dense + (gradient.dense if gradient.touched else 0)
                found[rows, "loss"] = worker.runner.loss
    assert np.isfinite(found[1, "values"][[5, 2, 9, 22, 0]]).all() and np.isnan(found[1, "values"]).sum() == 5 * 18
    for key in ("values", "table", "weight", "loss"):
        np.testing.assert_allclose(found[3, key], found[1, key], rtol=1e-12, atol=1e-14)


def training():
    return Training(wyrm.optim.SGD(0.1, [wyrm.ParameterNode(1.0)]).groups[0].rule, 0)


# --- what native code must not believe ---------------------------------------------------------------------------


def simple_runner(examples=10, **kind):
    chosen = wyrm.get_backend()
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    traced, _, _ = trace([(w * x)._structure])
    program = lower(traced, "train", chosen.capabilities.kernels, (training(),))
    value, scalars = w.storage.value, np.full((1, 1), 0.25, "f")
    shared = {Buffer("value", 0): value, Buffer("scalars", 0): scalars}
    part = Part(compiled(program, chosen), [Source(np.ones((examples, 1), "f"), **kind)], shared=shared)
    return Worker(chosen, [part]), w


@pytest.mark.parametrize("example", [-1, 10, 2**62, -(2**63)])
def test_orders_beyond_the_data_are_refused_before_anything_changes(backend, example):
    worker, w = simple_runner()
    order = np.array([[0], [1], [example], [3]], np.int64)
    assert worker.runner.run(order, 0, 4) == Report.ORDER_OUT_OF_RANGE
    assert int(worker.memories[0].report.words[4]) == 2
    assert w.value == 0.5  # two steps of 1/4


@pytest.mark.parametrize(
    ("first", "made", "examples"), [(-1, 0, 10), (-7, 0, 10), (3, 7, 10), (2**63 - 20, 0, 10), (3, 15, 18)]
)
def test_ranges_beyond_the_data_are_refused(backend, first, made, examples):
    """Examples that follow each other, of which only the first ones or the last ones are no good, or the last one alone."""
    worker, w = simple_runner(examples)
    order = np.arange(first, first + 16, dtype=np.int64).reshape(-1, 1)
    assert worker.runner.run(order, 0, 16) == Report.ORDER_OUT_OF_RANGE
    assert int(worker.memories[0].report.words[4]) == made
    assert w.value == 1 - made / 4


def test_positions_beyond_the_data_are_refused(backend):
    """Of data that have a row for each run, not for each example."""
    worker, w = simple_runner(3, by_position=True)
    assert worker.runner.run(np.zeros((4, 1), np.int64), 0, 4) == Report.ORDER_OUT_OF_RANGE
    assert int(worker.memories[0].report.words[4]) == 3
    assert w.value == 1 - 3 / 4


def test_orders_and_choices_of_the_wrong_kind_are_refused(backend):
    chosen = wyrm.get_backend()
    if not hasattr(chosen, "run_team"):
        pytest.skip("only native code has to be protected")
    worker, w = simple_runner()
    good = np.zeros((4, 1), np.int64)
    for order in (good.astype(np.int32), good[:, 0], np.zeros((4, 2), np.int64)[:, :1], np.zeros((4, 0), np.int64), [[0]]):
        with pytest.raises(wyrm.BackendError):
            worker.runner.run(order, 0, 1)
    for start, stop in ((-1, 2), (0, 5), (3, 2)):
        with pytest.raises(wyrm.BackendError):
            worker.runner.run(good, start, stop)
    for choice in (np.ones(4, np.int64), -np.ones(4, np.int64), np.zeros(4, np.int32), np.zeros((4, 1), np.int64)):
        with pytest.raises(wyrm.BackendError):
            worker.runner.choice = choice
    worker.runner.choice = np.zeros(3, np.int64)
    with pytest.raises(wyrm.BackendError):
        worker.runner.run(good, 0, 4)
    choice = np.zeros(4, np.int64)
    worker.runner.choice = choice
    for made, number in enumerate((7, 1, -1), 1):
        choice[2] = number  # behind the runner's back
        assert worker.runner.run(good, 0, 4) == Report.ORDER_OUT_OF_RANGE
        assert w.value == 1 - made * 0.5


def test_merging_never_writes_beyond_a_list(backend):
    """Room is checked before anything changes: for rows, and for matrices that are not there."""
    chosen = wyrm.get_backend()
    value = np.zeros((30, 2), "f")
    program = lower_update([(30, 2)], [training()], "float32", chosen.capabilities.kernels, 3)
    gradients = [GradientBuffer((30, 2), "float32") for _ in range(3)]
    for n, gradient in enumerate(gradients):
        gradient.extend(16)
        gradient.add_rows(np.arange(6) + n, np.full((6, 2), n + 1, "f"))
    buffers = [*Memory.own(program)]
    for b in program.buffers[2:]:
        buffers.append(
            gradients[b.number] if b.kind == "gradient" else value if b.kind == "value" else np.full((1, 1), -1, "f")
        )
    memory = Memory(program, buffers)
    runner = compiled(program, chosen).bind_feed(memory, [], [])
    order = np.zeros((1, 1), np.int64)
    for gradient in gradients[1:]:
        gradient.extend(16)
        gradient.add_rows(np.arange(14), np.ones((14, 2), "f"))
    assert runner.run(order, 0, 1) == Report.ROWS_FULL
    assert int(memory.report.words[3]) == 40
    assert [g.count for g in gradients] == [6, 20, 20] and not value.any()
    gradients[0].extend(40)
    gradients[2].require_dense()[...] = 1
    gradients[2].header[0] = 1
    assert runner.run(order, 0, 1) == Report.NO_MATRIX
    assert [g.count for g in gradients] == [6, 20, 20] and not value.any() and gradients[2].touched
    gradients[0].require_dense()
    expected = np.ones((30, 2))
    for n in range(3):
        expected[n : n + 6] += n + 1
    expected[:14] += 2
    assert runner.run(order, 0, 1) == 0
    np.testing.assert_array_equal(value, expected)
    assert [g.count for g in gradients] == [0, 0, 0] and not gradients[2].touched and not gradients[2].dense.any()


def test_nobody_waits_in_an_abandoned_team(backend):
    chosen = wyrm.get_backend()
    if "synchronized" not in chosen.capabilities.schedules:
        pytest.skip("its threads do not meet")
    model = TwoStructures()
    crew = Synchronized(model.work(chosen, 16), 2)
    for shard in crew.shards.workers:
        shard.runner.choice = model.choice
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(crew.team.run(1, model.order, 0, 57)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    crew.team.abandon()
    thread.join(60)
    assert statuses == [Report.ABANDONED]


def test_shards_are_cut_by_the_length_alone():
    assert shard_ends(10, 4) == [0, 2, 5, 7, 10]
    assert shard_ends(2, 4) == [0, 0, 1, 1, 2]
