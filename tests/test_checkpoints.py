"""Checkpoints: what is saved comes back, runs are resumed to the bit, and no file does harm."""

import json
import os
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from kill_checkpoints import kill
from safetensors import safe_open
from safetensors.numpy import save_file

import wyrm
from wyrm import nn
from wyrm.checkpoints.files import read_file, write_file
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW, Group, RowwiseAdagrad, schedules

OPTIMIZERS = {
    "sgd": lambda p: SGD(0.1, p, l2=0.01),
    "momentum": lambda p: SGD(0.01, p, momentum=0.9),
    "momentum and decay by schedule": lambda p: SGD(schedules.cosine(0.01, 300), p, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: Adagrad(0.1, p, l1=0.001, clip_norm=1.0),
    "row-wise adagrad": lambda p: RowwiseAdagrad(0.1, p, clip_value=0.5),
    "adam": lambda p: Adam(0.01, p),
    "adamw": lambda p: AdamW(schedules.warmup(schedules.constant(0.01), 50), p),
    "ftrl": lambda p: FTRL(0.5, p, l1=0.001, l2=0.01),
    "groups": lambda p: Adam(0.01, [Group(p[:1], weight_decay=0.1), Group(p[1:], learning_rate=0.1)]),
}


class Model:
    """Factorization with a dense layer and dropout; each epoch touches some of the rows."""

    def __init__(self, optimizer, dtype="float32", rows=40):
        wyrm.InputNode((1, 1), 0.0).square().forward()  # each model is a graph of its own, so their random keys are the same
        rng = np.random.default_rng(3)
        self.users = wyrm.ParameterNode(rng.normal(size=(rows, 5)), name="users", dtype=dtype)
        self.items = wyrm.ParameterNode(rng.normal(size=(30, 5)), name="items", dtype=dtype)
        self.layer = nn.Linear(5, 1, rng=1, dtype=dtype)
        self.user, self.item = wyrm.IndexInputNode(name="user"), wyrm.IndexInputNode(name="item")
        self.y = wyrm.InputNode((1, 1), dtype=dtype)
        hidden = (self.users.index(self.user) * self.items.index(self.item)).dropout(0.2)
        self.loss = (self.layer.forward(hidden) - self.y).square()
        self.optimizer = OPTIMIZERS[optimizer]([self.users, self.items, *self.layer.parameters()])
        users, items = rng.integers(0, rows // 2, 60), rng.integers(0, 30, 60)
        self.feed = {self.user: users, self.item: items, self.y: rng.normal(size=60)}

    def fit(self, num_epochs, **options):
        return wyrm.fit(self.loss, self.feed, self.optimizer, num_epochs=num_epochs, **options)

    def values(self):
        state = self.optimizer.state_dict()
        return [p.value.copy() for p in self.loss.parameters()] + [state[key] for key in sorted(state)]


def assert_same(a, b):
    for x, y in zip(a.values(), b.values(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert [g.options for g in a.optimizer.groups] == [g.options for g in b.optimizer.groups]


# -- what is saved comes back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_round_trip(backend, optimizer, dtype, tmp_path):
    """Through a file into another model, which then trains on as the first does."""
    path = tmp_path / "model.safetensors"
    one, other = Model(optimizer, dtype), Model(optimizer, dtype)
    one.fit(2, seed=1)
    wyrm.save(path, one.loss, one.optimizer, metadata={"epoch": 2, "note": "ü"})
    saved = wyrm.load(path, other.loss, other.optimizer)
    assert saved.metadata == {"epoch": 2, "note": "ü"} and saved.run is None
    np.testing.assert_array_equal(saved.parameters["users"], one.users.value)
    assert_same(one, other)
    for model in (one, other):
        model.fit(1, seed=9)
    assert_same(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_rows_that_are_behind_are_caught_up_with(backend, tmp_path):
    """Momentum, step by step: rows that nobody touched since are saved as they would be read."""
    table, index = wyrm.ParameterNode(np.ones((4, 2)), name="t"), wyrm.IndexInputNode()
    optimizer = SGD(0.1, [table], momentum=0.9)
    loss = table.index(index).scalar_sum()
    for row in (0, 1, 2, 1, 1):
        index.set_value(row)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    assert table.storage.lazy[0].clock.last[0] < 5
    wyrm.save(tmp_path / "t", [table], optimizer)
    with safe_open(tmp_path / "t", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("t"), table.value)
        velocity = file.get_tensor("t/momentum.velocity")
    np.testing.assert_allclose(velocity[0], 0.9**4, rtol=1e-5)
    again = wyrm.ParameterNode(np.ones((4, 2)), name="t")
    restored = SGD(0.5, [again], momentum=0.9)
    again.index(index).scalar_sum().backward(1.0)
    restored.step()  # its rows are behind, too, when the others come
    again.zero_gradient()
    wyrm.load(tmp_path / "t", [again], restored)
    for node, by in ((table, optimizer), (again, restored)):
        node.index(index).scalar_sum().backward(1.0)
        by.step()
        by.step()
    np.testing.assert_array_equal(table.value, again.value)


def test_dropout_goes_on_step_by_step(backend, tmp_path):
    """The keys of random numbers follow the steps made, also in a model that was restored."""
    runs = []
    for cut in (False, True):
        w, x = wyrm.ParameterNode(np.ones((1, 20)), name="w"), wyrm.InputNode((1, 20), np.ones((1, 20)))
        loss = (w * x).dropout(0.5, seed=4).square().scalar_sum()
        optimizer = SGD(0.01, [w])
        for step in range(6):
            if cut and step == 3:
                wyrm.save(tmp_path / "w", [w], optimizer)
                w, x = wyrm.ParameterNode(np.zeros((1, 20)), name="w"), wyrm.InputNode((1, 20), np.ones((1, 20)))
                loss = (w * x).dropout(0.5, seed=4).square().scalar_sum()
                optimizer = SGD(0.01, [w])
                wyrm.load(tmp_path / "w", [w], optimizer)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        runs.append(w.value.copy())
    np.testing.assert_array_equal(*runs)


def test_names(tmp_path):
    """Of a mapping, of a layer's attributes, of the nodes, or numbers."""

    class Tower(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(2, 2, rng=1), nn.Linear(2, 2, rng=2, bias=False)
            self.again = self.first

    tower = Tower()
    a, b, c = (wyrm.ParameterNode(float(n)) for n in range(3))
    named = wyrm.ParameterNode(3.0, name="named")
    twin = wyrm.ParameterNode.shared(a.storage, name="twin")
    for parameters, optimizer, expected in (
        (tower, None, ["first.weights", "first.biases", "second.weights"]),
        (tower.parameters(), None, ["weights.0", "biases", "weights.1"]),
        ([a, named, b], None, ["parameter.0", "named", "parameter.1"]),
        ({"x": a, "y": named}, SGD(0.1, [b]), ["x", "y", "parameter.0"]),
        ([a, twin], SGD(0.1, [c, twin]), ["parameter.0", "parameter.1"]),
        ((a * named + b).square(), None, ["parameter.0", "named", "parameter.1"]),
        ({"named": a}, SGD(0.1, [named]), ["named", "named.0"]),
        (iter([a]), iter([SGD(0.1, [a])]), ["parameter.0"]),
    ):
        wyrm.save(tmp_path / "m", parameters, optimizer)
        assert list(wyrm.load(tmp_path / "m").parameters) == expected
    with pytest.raises(wyrm.OptionError, match="'named.0' cannot"):
        wyrm.save(tmp_path / "m", {"named": a, "named.0": b}, SGD(0.1, [named]))
    with pytest.raises(wyrm.OptionError, match="__metadata__"):
        wyrm.save(tmp_path / "m", {"__metadata__": a})
    with pytest.raises(wyrm.OptionError, match=r"'a/adagrad\.sum'"):
        wyrm.save(tmp_path / "m", {"a": a, "a/adagrad.sum": b}, Adagrad(0.1, [a]))
    with pytest.raises(wyrm.OptionError, match="got none"):
        wyrm.save(tmp_path / "m", [])
    with pytest.raises(wyrm.DTypeError, match="ParameterNodes"):
        wyrm.save(tmp_path / "m", [3])
    with pytest.raises(wyrm.DTypeError, match="optimizer"):
        wyrm.save(tmp_path / "m", [a], [3])
    with pytest.raises(wyrm.OptionError, match="metadata"):
        wyrm.save(tmp_path / "m", [a], metadata={"x": {1}})
    with pytest.raises(wyrm.OptionError, match="parameters, too"):
        wyrm.load(tmp_path / "m", None, SGD(0.1, [a]))
    assert list(wyrm.load(tmp_path / "m").parameters) == ["parameter.0"]  # as the last good call left it


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_shapes(shape, tmp_path):
    a = wyrm.ParameterNode(np.ones(shape), name="a")
    wyrm.save(tmp_path / "m", [a], Adagrad(0.1, [a]))
    assert wyrm.load(tmp_path / "m", [a], Adagrad(0.1, [a])).parameters["a"].shape == shape


def test_other_backends_load_it(tmp_path):
    saved = Model("momentum")
    saved.fit(1, seed=1, backend="reference")
    wyrm.save(tmp_path / "m", saved.loss, saved.optimizer)
    for status in wyrm.backends():
        model = Model("momentum")
        model.fit(1, seed=5, backend=status.name)
        wyrm.load(tmp_path / "m", model.loss, model.optimizer)
        assert_same(saved, model)
        model.fit(1, backend=status.name)


# -- runs that are resumed


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_ends_with_the_same_bits(backend, optimizer, tmp_path):
    """As one without interruption, whether that was saved as it ran or not; also after an interruption in an epoch."""
    path = tmp_path / "run.safetensors"
    by_epoch = [wyrm.LearningRate(lambda epoch: 0.01 / epoch)] if optimizer == "momentum" else []
    whole, watched, cut, on = (Model(optimizer) for _ in range(4))
    history = whole.fit(4, seed=11, callbacks=by_epoch)
    watched.fit(4, seed=11, callbacks=[*by_epoch, wyrm.Checkpoint(tmp_path / "{epoch}.safetensors", every=3)])
    assert_same(whole, watched)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["3.safetensors", "4.safetensors"]

    class Fails(wyrm.Callback):
        def begin_epoch(self, run):
            if run.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.fit(4, seed=11, callbacks=[*by_epoch, wyrm.Checkpoint(path), Fails()])
    resumed = on.fit(4, callbacks=by_epoch, resume=path)
    assert_same(whole, on)
    assert resumed.losses == history.losses and resumed.seed == 11
    assert [epoch.number for epoch in resumed] == [1, 2, 3, 4] and resumed.examples_per_thread == [120]


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_on_several_threads_are_resumed_to_the_bit(backend, threads, tmp_path):
    """On other numbers of threads, too: the schedule ``synchronized`` gives the same bits."""
    if threads > 1 and "synchronized" not in wyrm.get_backend().capabilities.schedules:
        pytest.skip(f"{backend} does not declare it")
    options = {"batch_size": 8, "schedule": "synchronized"}
    whole, cut, on = (Model("adam") for _ in range(3))
    history = whole.fit(4, seed=11, num_threads=1, **options)
    cut.fit(2, seed=11, num_threads=1, callbacks=[wyrm.Checkpoint(tmp_path / "m")], **options)
    resumed = on.fit(4, num_threads=threads, resume=tmp_path / "m", **options)
    assert_same(whole, on)
    assert resumed.losses == pytest.approx(history.losses, rel=1e-12) and on.optimizer.steps == 32
    with pytest.raises(wyrm.CheckpointError, match="batch_size=8, and here batch_size=4"):
        on.fit(6, num_threads=1, resume=tmp_path / "m", **{**options, "batch_size": 4})


RESUMED = """
    import sys
    import numpy as np
    import wyrm
    from test_checkpoints import Model

    backend, optimizer, path, resume, epochs, out = sys.argv[1:]
    model = Model(optimizer)
    options = {"resume": path} if resume == "yes" else {"seed": 5}
    history = model.fit(int(epochs), backend=backend, callbacks=[wyrm.Checkpoint(path)], **options)
    np.savez(out, *model.values(), losses=history.losses)
"""


@pytest.mark.parametrize("optimizer", ["momentum and decay by schedule", "adamw"])
def test_a_run_resumed_in_a_new_process_ends_with_the_same_bits(backend, optimizer, tmp_path):
    def run(name, path, resume, epochs):
        command = [sys.executable, "-c", textwrap.dedent(RESUMED), backend, optimizer, str(tmp_path / path), resume, epochs]
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
        subprocess.run([*command, str(tmp_path / name)], check=True, env=environment)

    run("whole.npz", "whole", "no", "5")
    run("half.npz", "run", "no", "2")
    run("resumed.npz", "run", "yes", "5")
    with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / "resumed.npz") as resumed:
        assert len(whole["losses"]) == 5
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], resumed[name])


def test_early_stopping_goes_on_where_it_was(tmp_path):
    values = [3.0, 2.0, 2.5, 2.5, 2.5, 2.5]

    def callbacks():
        def metric(epoch):
            epoch.metrics["validation_loss"] = values[epoch.number - 1]

        return [metric, wyrm.EarlyStopping(patience=3, restore_best=True), wyrm.Checkpoint(tmp_path / "m")]

    Model("adam").fit(3, seed=1, callbacks=callbacks())
    history = Model("adam").fit(9, callbacks=callbacks(), resume=tmp_path / "m")
    assert len(history) == 5 and history.stopped


def test_the_best_is_kept(tmp_path):
    def metric(epoch):
        epoch.metrics["mrr"] = [0.1, 0.3, 0.2][epoch.number - 1]

    Model("adam").fit(3, callbacks=[metric, wyrm.Checkpoint(tmp_path / "m", best="mrr", mode="max")])
    assert wyrm.load(tmp_path / "m").run["epoch"] == 2


def test_what_cannot_be_resumed(tmp_path):
    path = tmp_path / "m"
    Model("adam").fit(2, seed=1, callbacks=[wyrm.Checkpoint(path)])

    def refused(pattern, model=None, kind=wyrm.CheckpointError, **options):
        model = model or Model("adam")
        before = model.values()
        with pytest.raises(kind, match=pattern):
            model.fit(4, **{"resume": path, **options})
        for a, b in zip(model.values(), before, strict=True):
            np.testing.assert_array_equal(a, b)

    refused("seed=1, and here seed=2", seed=2)
    refused("shuffle=True, and here shuffle=False", shuffle=False)
    shorter = Model("adam")
    shorter.feed = {node: array[:50] for node, array in shorter.feed.items()}
    refused("examples=60, and here examples=50", shorter)
    refused("expected the optimizers 'SGD', found 'Adam'", Model("sgd"))
    refused(r"parameter 'users': expected shape \(42, 5\), found \(40, 5\)", Model("adam", rows=42))
    refused("expected dtype float64, found float32", Model("adam", "float64"))
    refused("nothing", kind=FileNotFoundError, resume=tmp_path / "nothing")
    wyrm.save(path, Model("adam").loss)
    refused("no run of fit")
    assert len(Model("adam").fit(0)) == 0


# -- checkpoints of others


def test_checkpoints_of_other_models(backend, tmp_path):
    path = tmp_path / "m"
    a, b = wyrm.ParameterNode(np.ones((2, 3)), name="a"), wyrm.ParameterNode(1.0, name="b")
    wyrm.save(path, [a, b], SGD(0.1, [Group([a], l2=0.5), Group([b])], momentum=0.5))
    new = wyrm.ParameterNode(np.zeros((2, 3)), name="a"), wyrm.ParameterNode(0.0, name="b")
    c, tall = wyrm.ParameterNode(0.0, name="c"), wyrm.ParameterNode(np.zeros((3, 2)), name="a")

    def refused(pattern, parameters, optimizer=None):
        parameters, optimizers = list(parameters), [optimizer] if optimizer else []
        before = [p.value.copy() for p in parameters], [o.state_dict() for o in optimizers]
        with pytest.raises(wyrm.CheckpointError, match=pattern):
            wyrm.load(path, parameters, optimizer)
        for p, value in zip(parameters, before[0], strict=True):
            np.testing.assert_array_equal(p.value, value)
        for o, state in zip(optimizers, before[1], strict=True):
            for key, value in o.state_dict().items():
                np.testing.assert_array_equal(value, state[key])

    refused("has no parameter 'c'; its parameters are 'a', 'b'", [*new, c])
    refused("has a parameter 'b', which the model has not; its parameters are 'a'", new[:1])
    refused(r"parameter 'a': expected shape \(3, 2\), found \(2, 3\)", [tall, new[1]])
    refused("dtype float64, found float32", [new[0], wyrm.ParameterNode(0.0, name="b", dtype="float64")])
    refused("expected the optimizers 'Adam', found 'SGD'", new, Adam(0.1, new))
    refused("expected 1 groups of parameters, found 2", new, SGD(0.1, new, momentum=0.5))
    groups = [Group(new[:1], l2=0.25), Group(new[1:])]
    refused(r"group 0: expected the option l2 to be 0\.25, found 0\.5", new, SGD(0.1, groups, momentum=0.5))
    groups = [Group(new[:1], l2=0.5), Group(new[1:])]
    refused("expected rule 'sgd', found 'momentum'", new, SGD(0.1, groups))
    refused(r"expected the option momentum to be 0\.75, found 0\.5", new, SGD(0.1, groups, momentum=0.75))
    groups = [Group(new[:1], l2=0.5), Group(new[1:], l2=0.5)]
    refused(r"group 1: expected the option l2 to be 0\.5, found none", new, SGD(0.1, groups, momentum=0.5))
    groups = [Group(new[1:], l2=0.5), Group(new[:1])]
    refused("expected parameters", new, SGD(0.1, groups, momentum=0.5))
    wyrm.save(path, [a, b], SGD(schedules.constant(0.1), [a, b]))
    refused("follows a schedule", new, SGD(0.1, new))
    wyrm.save(path, [a, b])
    refused("expected the optimizers 'SGD', found none", new, SGD(0.1, new))
    wyrm.load(path, new)
    np.testing.assert_array_equal(new[0].value, a.value)


def test_learning_rates_are_taken_over(tmp_path):
    a = wyrm.ParameterNode(1.0)
    optimizer = SGD(0.1, [a])
    optimizer.learning_rate = 0.025
    wyrm.save(tmp_path / "m", [a], optimizer)
    for rate in (0.7, schedules.constant(0.7)):
        again = SGD(rate, [a])
        wyrm.load(tmp_path / "m", [a], again)
        assert again.learning_rate == np.float32(0.025)
        a.backward(1.0)
        before = float(a.value[0, 0])
        again.step()
        assert float(a.value[0, 0]) == pytest.approx(before - 0.025)


# -- files that are no checkpoints


@pytest.fixture
def file(tmp_path):
    model = Model("adam")
    model.fit(1, seed=1, callbacks=[wyrm.Checkpoint(tmp_path / "m")], backend="reference")
    return tmp_path / "m"


def refused(path, kind=wyrm.CheckpointError, pattern=None):
    """Neither loaded nor resumed from, and nothing changes."""
    model = Model("adam")
    before = model.values()
    for attempt in (
        lambda: wyrm.load(path),
        lambda: wyrm.load(path, model.loss),
        lambda: wyrm.load(path, model.loss, model.optimizer),
        lambda: model.fit(3, resume=path, backend="reference"),
    ):
        with pytest.raises(kind, match=pattern):
            attempt()
    for a, b in zip(model.values(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_truncated_files(file):
    """At every tenth of the length, within the header, and one byte short or long."""
    data = file.read_bytes()
    header = struct.unpack("<Q", data[:8])[0]
    cuts = {len(data) * n // 10 for n in range(10)} | {1, 7, 8, 9, 8 + header // 2, 8 + header, len(data) - 1}
    for cut in sorted(cuts):
        file.write_bytes(data[:cut])
        refused(file)
    file.write_bytes(data + b"\0")
    refused(file)


def test_bytes_that_have_changed(file, rng):
    """Any of them: in the header, the document, the arrays."""
    data = file.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*range(8), *rng.integers(8, header, 150), *rng.integers(header, len(data), 100)]
    model = Model("adam")
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(wyrm.CheckpointError):
            wyrm.load(file, model.loss, model.optimizer)
    file.write_bytes(data)
    wyrm.load(file, model.loss, model.optimizer)


def header_only(header, body=b"", length=None):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + body


TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
HOSTILE = {
    "empty": b"",
    "text": b"not a checkpoint at all, but long enough for a header",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "header longer than the file": header_only({}, length=1 << 20),
    "header of all memory": header_only({}, length=2**63),
    "header of -1": header_only({}, length=2**64 - 1),
    "no JSON": header_only(b"{" * 50),
    "deep": header_only(b'{"a":' * 50_000),
    "a list": header_only([1, 2]),
    "huge shape": header_only({"a": {**TENSOR, "shape": [2**40, 2**40]}}, bytes(16)),
    "overflowing shape": header_only({"a": {**TENSOR, "shape": [2**62, 4]}}, bytes(16)),
    "huge and empty": header_only({"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}),
    "negative shape": header_only({"a": {**TENSOR, "shape": [-2, -2]}}, bytes(16)),
    "offsets beyond the file": header_only({"a": {**TENSOR, "data_offsets": [0, 1 << 40]}}, bytes(16)),
    "offsets that fall": header_only({"a": {**TENSOR, "data_offsets": [16, 0]}}, bytes(16)),
    "shape and bytes": header_only({"a": {**TENSOR, "shape": [2, 3]}}, bytes(16)),
    "unknown dtype": header_only({"a": {**TENSOR, "dtype": "Q7"}}, bytes(16)),
    "bfloat16": header_only({"a": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}, bytes(16)),
    "overlapping": header_only({"a": TENSOR, "b": TENSOR}, bytes(16)),
    "metadata of numbers": header_only({"__metadata__": {"wyrm": 3}, "a": TENSOR}, bytes(16)),
    "foreign": header_only({"a": TENSOR}, bytes(16)),
    "a checksum of its own": header_only({"__metadata__": {"wyrm": "{}", "checksum": "0"}, "a": TENSOR}, bytes(16)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    (tmp_path / "m").write_bytes(HOSTILE[name])
    refused(tmp_path / "m")


def test_places_that_are_no_files(tmp_path):
    refused(tmp_path, pattern="expected a file")
    refused(tmp_path / "missing", FileNotFoundError)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")
    refused("/dev/zero")


def test_files_of_others(tmp_path):
    save_file({"users": np.ones((2, 2), np.float32)}, tmp_path / "m", {"format": "np"})
    refused(tmp_path / "m", pattern="none that wyrm.save wrote")


REPLACEMENTS = [None, 0, -1, 2**70, 0.5, 1e400, "x", "", [], [[]], {}, {"a": 1}, True, [None], ["users"], [{}]]


def test_documents_of_any_kind(file, rng):
    """With a right checksum, and any value replaced or left out: the same errors, and nothing changes."""
    arrays, document = read_file(file)

    def places(value, path=()):
        yield path
        if isinstance(value, dict):
            for key in value:
                yield from places(value[key], (*path, key))
        elif isinstance(value, list):
            for n in range(len(value)):
                yield from places(value[n], (*path, n))

    model, count = Model("adam"), 0
    before = model.values()
    attempts = (
        lambda model: wyrm.load(file),
        lambda model: wyrm.load(file, model.loss, model.optimizer),
        lambda model: model.fit(1, resume=file, backend="reference"),
    )
    for path in [place for place in places(document) if place and place != ("format",)]:
        for replacement in [*rng.permutation(np.array(REPLACEMENTS, object)).tolist()[:5], "left out"]:
            changed = json.loads(json.dumps(document))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if isinstance(replacement, str) and replacement == "left out":
                del inner[path[-1]]
            else:
                if replacement == inner[path[-1]] or replacement == float("inf"):
                    continue
                inner[path[-1]] = replacement
            write_file(file, arrays, changed)
            for attempt in attempts:
                try:
                    attempt(model)
                except wyrm.CheckpointError:
                    count += 1
                    for a, b in zip(model.values(), before, strict=True):
                        np.testing.assert_array_equal(a, b)
                else:  # what was replaced is of no consequence here
                    model = Model("adam")
    assert count > 300


def test_arrays_that_are_missing_or_others(file):
    arrays, document = read_file(file)
    for name in arrays:
        write_file(file, {key: array for key, array in arrays.items() if key != name}, document)
        model = Model("adam")
        with pytest.raises(wyrm.CheckpointError):
            wyrm.load(file, model.loss, model.optimizer)
        write_file(file, {**arrays, name: np.zeros((7, 7), np.float32)}, document)
        with pytest.raises(wyrm.CheckpointError, match=r"expected shape .*found \(7, 7\)"):
            wyrm.load(file, model.loss, model.optimizer)
    write_file(file, arrays, {**document, "format": 2})
    refused(file, pattern="another version")


# -- writing


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    a = wyrm.ParameterNode(1.0, name="a")
    path = tmp_path / "m"
    wyrm.save(path, [a])
    a.set_value(2.0)
    for error in (OSError, KeyboardInterrupt):

        def fail(*_, error=error):
            raise error("on purpose")

        for name in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(f"wyrm.checkpoints.files.os.{name}", fail)
                with pytest.raises(error, match="on purpose"):
                    wyrm.save(path, [a])
            assert os.listdir(tmp_path) == ["m"]
            assert wyrm.load(path).parameters["a"] == 1
    with pytest.raises(FileNotFoundError):
        wyrm.save(tmp_path / "nowhere" / "m", [a])
    wyrm.save(path, [a])
    assert wyrm.load(path).parameters["a"] == 2


def test_what_is_put_in_its_place_is_on_the_disk(tmp_path, monkeypatch):
    """The file that is renamed is the one that was synchronized, then the folder is; others may read it as any new file."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        "wyrm.checkpoints.files.os.fsync", lambda number: (calls.append(("sync", os.fstat(number).st_ino)), fsync(number))
    )
    monkeypatch.setattr(
        "wyrm.checkpoints.files.os.replace", lambda a, b: (calls.append(("replace", os.stat(a).st_ino)), replace(a, b))
    )
    wyrm.save(tmp_path / "m", [wyrm.ParameterNode(1.0)])
    file = (tmp_path / "m").stat()
    assert calls == [("sync", file.st_ino), ("replace", file.st_ino), ("sync", tmp_path.stat().st_ino)]
    (tmp_path / "other").touch()
    assert file.st_mode == (tmp_path / "other").stat().st_mode


def test_links_stay_links(tmp_path):
    a = wyrm.ParameterNode(1.0, name="a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "m")
    wyrm.save(tmp_path / "link", [a])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "m").is_file()


def test_saving_while_others_train(tmp_path, rng):
    """A file is whole also where the values change as it is written."""
    import threading

    table = wyrm.ParameterNode(rng.normal(size=(2000, 64)), name="t")
    done = threading.Event()

    def change():
        while not done.is_set():
            table.set_value(rng.normal(size=(2000, 64)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            wyrm.save(tmp_path / "m", [table])
            wyrm.load(tmp_path / "m")
    finally:
        done.set()
        thread.join()


def test_kills():
    """Killed at any instant, training that checkpoints leaves a whole file; the full run is the script's."""
    report = kill(kills=8, seed=int(np.random.default_rng().integers(2**31)))
    assert report["kills"] == 8 and report["epochs"] > 0
