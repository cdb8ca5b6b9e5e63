"""Arrays of users: whatever is done to them between two calls or during one, native code reads and writes what it was given."""

import threading
import time
import warnings

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD, Adam

#: Ways in which NumPy lets an array be changed in place, and how it is put back, if it lets it.
CHANGES = {
    "shape": ("array.shape = (8, 4)", "array.shape = (4, 8)"),
    "one axis": ("array.shape = (-1,)", "array.shape = (4, 8)"),
    "three axes": ("array.shape = (2, 2, 8)", "array.shape = (4, 8)"),
    "strides": ("array.strides = (16, 4)", None),
    "no strides": ("array.strides = (0, 0)", None),
    "dtype": ("array.dtype = np.int32", "array.dtype = np.float32"),
    "wider dtype": ("array.dtype = np.float64", "array.dtype = np.float32"),
    "read-only": ("array.setflags(write=False)", "array.setflags(write=True)"),
    "read-only flag": ("array.flags.writeable = False", "array.flags.writeable = True"),
    "memory": ("array.__setstate__((1, (400, 8), array.dtype, False, bytes(12800)))", None),
}


def change(statement, array):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer versions of NumPy
        exec(statement, {"array": array, "np": np})


class Adopting:
    """A model over an array that a parameter has adopted, beside another parameter; and ways to go on with it."""

    def __init__(self, path):
        self.array = np.ones((4, 8), np.float32)
        self.table = wyrm.ParameterNode(self.array, name="table", copy=False)
        self.other = wyrm.ParameterNode(np.ones((1, 8)), name="other")
        self.row = wyrm.IndexInputNode(1, 2)
        self.score = self.table.index(self.row) * self.other
        self.loss = self.score.square().scalar_sum() + (self.table * 0.5).scalar_sum()
        self.optimizer = SGD(0.1, [self.other, self.table])
        self.path = path / "model"
        wyrm.save(self.path, [self.table, self.other])

    def backward(self):
        self.loss.backward(1.0)

    def step(self):
        self.optimizer.step()

    def forward(self):
        self.loss.forward()

    def other_forward(self):
        self.score.forward()

    def other_step(self):
        Adam(0.1, [self.table]).step()

    def fit(self):
        wyrm.fit(self.loss, {self.row: [1, 2, 3]}, self.optimizer, seed=0)

    def fit_threads(self):
        wyrm.fit(self.loss, {self.row: [1, 2, 3]}, self.optimizer, num_threads=2, seed=0, batch_size=2)

    def fit_function(self):
        wyrm.fit(lambda row: self.table.index(row).square().scalar_sum(), {"row": [1, 2]}, self.optimizer, seed=0)

    def evaluate(self):
        wyrm.evaluate(self.score, {self.row: [1, 2, 3]})

    def evaluate_function(self):
        wyrm.evaluate(lambda row: self.table.index(row), {"row": np.arange(3)})

    def value(self):
        return self.table.value

    def set_value(self):
        self.table.set_value(np.zeros((4, 8)))

    def max_norm(self):
        self.table.max_norm = 0.1

    def frozen_rows(self):
        self.table.frozen_rows = [1]

    def load(self):
        wyrm.load(self.path, [self.table, self.other])

    def new_loss(self):
        (self.table * 2.0).scalar_sum().forward()


WAYS = [name for name, way in vars(Adopting).items() if callable(way) and not name.startswith("_")]


@pytest.mark.parametrize("changed", CHANGES)
def test_adopted_arrays_that_are_something_else(backend, changed, tmp_path):
    """Nothing is computed or written; and put back, they are trained on."""
    statement, back = CHANGES[changed]
    model = Adopting(tmp_path)
    for way in WAYS:  # programs are bound by now, of which some stay so
        getattr(model, way)()
    before, other = model.array.copy(), model.other.value.copy()
    model.loss.forward()
    model.loss.backward(1.0)
    gathered = model.table.gradient.to_dense()
    change(statement, model.array)
    seen = model.array.tobytes()
    for way in WAYS:
        with pytest.raises(wyrm.OptionError, match=r"'table': the array that it adopted \(copy=False\) is not what it was"):
            getattr(model, way)()
    assert model.array.tobytes() == seen
    np.testing.assert_array_equal(model.other.value, other)
    np.testing.assert_array_equal(model.table.gradient.to_dense(), gathered)
    if back is not None:
        change(back, model.array)
        np.testing.assert_array_equal(model.array, before)
        model.optimizer.step()
        assert (model.array != before).any()
        for way in ("forward", *WAYS):
            getattr(model, way)()


def test_changes_in_a_callback(backend, tmp_path):
    """Noticed before the next epoch."""
    model = Adopting(tmp_path)
    epochs = []

    def callback(epoch):
        epochs.append(model.array.copy())
        if epoch.number == 2:
            model.array.setflags(write=False)

    with pytest.raises(wyrm.OptionError, match="'table': .* read-only"):
        wyrm.fit(model.loss, {model.row: [1, 2, 3]}, model.optimizer, num_epochs=5, callbacks=[callback], seed=0)
    assert len(epochs) == 2
    np.testing.assert_array_equal(model.array, epochs[-1])


def moves(array):
    """Whether NumPy moves the memory of an array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    try:
        array.resize((1,), refcheck=False)
    except ValueError:
        return False
    return True


def test_memory_that_native_code_works_on_is_not_moved(backend):
    """Nor is that behind views that are handed out."""
    assert moves(np.zeros(3))
    array = np.zeros((400, 8), np.float32)
    adopting, copying = wyrm.ParameterNode(array, copy=False), wyrm.ParameterNode(np.zeros((400, 8)))
    storage = wyrm.HogwildParameter(np.zeros((400, 8)))
    optimizer = SGD(0.1, [copying, adopting])
    for given in (array, adopting.value, copying.value, storage.value, adopting.storage.value, optimizer.groups[0].scalars):
        assert not moves(given)
    values, weights, entries = np.zeros(3, np.int32), np.ones(3, np.float32), np.zeros(3, np.int32)
    bags, sequences = wyrm.Bags(values, [0, 3], weights), wyrm.Ragged(entries, [0, 3])
    taken = bags.take([0, 0])
    for given in (values, weights, entries, bags.values, bags.weights, bags.begins, taken.ends, sequences.values):
        assert not moves(given)
    del bags
    assert not moves(values)
    del taken, sequences, given
    assert moves(values) and moves(entries)


def test_views_that_are_handed_out_are_nobodys_but_their_holders(backend):
    """Their shape, strides and dtype say nothing to programs, nor do they to those that are bound later."""
    table = wyrm.ParameterNode(np.arange(12.0).reshape(4, 3), name="table")
    optimizer = Adam(0.1, [table], weight_decay=0.1)
    row = wyrm.IndexInputNode(1, 3)
    loss = table.index(row).scalar_sum()
    for view in (table.value, table.storage.value, table.storage.value.base):
        change("array.dtype = np.uint8; array.shape = (-1,); array.strides = (0,)", view)
    assert table.shape == table.value.shape == table.storage.value.shape == (4, 3)
    assert loss.value == 30
    loss.backward(1.0)
    optimizer.step()
    assert (table.value[3] != [9, 10, 11]).all()
    wyrm.fit(loss, {row: [3, 3, 2]}, optimizer, seed=0)
    with pytest.raises(AttributeError):
        optimizer.groups[0].scalars = np.zeros((1, 1))


# -- feeds

FEED_CHANGES = {
    "shape": "array.shape = (-1,) + array.shape[2:] if array.ndim > 1 else (2, -1)",
    "strides": "array.strides = (0,) * array.ndim",
    "dtype": "array.dtype = np.int8",
    "read-only": "array.setflags(write=False)",
    "resize": "array.resize((1,), refcheck=False)",
    "resize behind": "owner(array).resize((1,), refcheck=False)",
}


@pytest.mark.parametrize("changed", FEED_CHANGES)
def test_feeds_that_are_changed_while_they_are_gone_through(backend, rng, changed):
    """NumPy moves no memory; another shape or dtype is that of the user's array alone."""
    table = wyrm.ParameterNode(rng.standard_normal((30, 3)), dtype="float64")
    one, bag, x = wyrm.IndexInputNode(), wyrm.BagInputNode(1), wyrm.InputNode((1, 3), dtype="float64")
    loss = ((table.index(one) + table.index_sum(bag)) * x).square().scalar_sum()
    count = 60
    start = table.value.copy()
    results = []
    for when in (None, 1):
        table.set_value(start)
        random = np.random.default_rng(0)
        arrays = [random.integers(0, 30, count), random.integers(0, 30, 3 * count), random.random((count, 3))]
        feed = {one: arrays[0], bag: wyrm.Bags(arrays[1], np.arange(0, 3 * count + 1, 3)), x: arrays[2]}
        refused = 0

        def callback(epoch, when=when, arrays=arrays):
            nonlocal refused
            for array in arrays:
                if epoch.number == when:
                    owner = array if array.base is None else array.base
                    try:
                        change(FEED_CHANGES[changed].replace("owner(array)", "array"), owner)
                    except ValueError:
                        refused += 1

        wyrm.fit(loss, feed, SGD(1e-4, [table]), num_epochs=3, callbacks=[callback], seed=0, num_threads=1)
        assert refused == (3 if when and "resize" in changed else 0)
        results.append(table.value.copy())
    np.testing.assert_array_equal(*results)


def test_row_numbers_that_are_changed_after_they_were_checked(backend, rng):
    """Are looked at again when they are used: in feeds, bags and sequences, by a loop and by instructions."""
    table = wyrm.ParameterNode(rng.standard_normal((30, 2)))
    one, bag = wyrm.IndexInputNode(), wyrm.BagInputNode(1)
    models = [
        (table.index(one).square().scalar_sum(), lambda numbers: {one: numbers}),
        (table.index_sum(bag).square().scalar_sum(), lambda numbers: {bag: wyrm.Bags(numbers, np.arange(61))}),
        (lambda words: table.index(words[0]).square().scalar_sum(), lambda n: {"words": wyrm.Ragged(n, np.arange(61))}),
    ]
    for wrong in (30, -1, 2**31 - 1, -(2**31)):
        for dtype in (np.int32, np.int64):
            for model, feed in models:
                numbers = rng.integers(0, 30, 60).astype(dtype)

                def callback(epoch, numbers=numbers, wrong=wrong):
                    numbers[30] = wrong

                with pytest.raises(wyrm.OutOfRangeError, match=str(wrong)):
                    wyrm.fit(model, feed(numbers), SGD(1e-3, [table]), num_epochs=2, callbacks=[callback], seed=0)
                assert np.isfinite(table.value).all()


@pytest.mark.parametrize("num_threads", [1, 2])
def test_another_thread_changes_a_feed(backend, num_threads):
    """As long as a run goes on, whatever it does: training ends well, or by an error."""
    table = wyrm.ParameterNode(np.zeros((30, 2)))
    one, y = wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = (table.index(one).scalar_sum() - y).square()
    rows, values = np.zeros(20_000, np.int64), np.ones(20_000)
    begun, done = threading.Event(), threading.Event()

    def spoil():
        random = np.random.default_rng(0)
        begun.wait()
        while not done.is_set():
            time.sleep(0.0001)
            for array in (rows, values):
                with pytest.raises(ValueError, match="resize"):
                    array.resize((int(random.integers(1, 10)),), refcheck=False)
            change("array.shape = (-1, 2)", rows)
            rows[random.integers(0, len(rows))] = random.integers(-(2**62), 2**62)
            change("array.shape = (-1,)", rows)

    thread = threading.Thread(target=spoil)
    thread.start()
    options = {"num_epochs": 3, "num_threads": num_threads, "schedule": "hogwild"}
    try:
        wyrm.fit(loss, {one: rows, y: values}, SGD(1e-3, [table]), callbacks=[lambda epoch: begun.set()], **options)
    except wyrm.OutOfRangeError:
        pass
    finally:
        done.set()
        begun.set()
        thread.join()
    assert len(values) == 20_000


@pytest.mark.parametrize("kind", ["array", "bags", "weights of bags", "weights", "sequences"])
def test_files_that_have_become_shorter(tmp_path, kind):
    """Noticed before the first byte is read, and between epochs; to read behind the end would end the process."""
    path = tmp_path / "rows"
    np.zeros(100_000, np.int64).tofile(path)
    table, one, bag = wyrm.ParameterNode(np.ones((4, 1))), wyrm.IndexInputNode(), wyrm.BagInputNode(1)

    def fit(callbacks=(), num_epochs=2):
        rows, values, options = np.memmap(path, np.int64, "r"), np.memmap(path, np.float64, "r"), {}
        if kind == "array":
            model, feed = table.index(one).square(), {one: rows}
        elif kind == "weights of bags":
            model, feed = (
                table.index_sum(bag).square(),
                {bag: wyrm.Bags(np.zeros(len(rows), int), range(len(rows) + 1), values)},
            )
        elif kind == "weights":
            model, feed, options["weights"] = table.index(one).square(), {one: np.zeros(len(rows), int)}, values
        elif kind == "bags":
            model, feed = table.index_sum(bag).square(), {bag: wyrm.Bags(rows, [0, len(rows)])}
        else:
            model, feed = lambda words: table.index(words[0]).square(), {"words": wyrm.Ragged(rows, [0, 1])}
        if not callbacks:
            path.write_bytes(bytes(8))
        wyrm.fit(model, feed, SGD(0.1, [table]), num_epochs=num_epochs, callbacks=callbacks, num_threads=1, **options)

    left = 4096 if kind in ("array", "weights") else 8
    with pytest.raises(wyrm.FeedError, match="has become shorter"):
        fit([lambda epoch: path.write_bytes(bytes(left))])
    np.zeros(100_000, np.int64).tofile(path)
    with pytest.raises(wyrm.FeedError, match="has become shorter"):
        fit()
