"""What a run leaves behind: history, progress, messages; callbacks between epochs."""

import csv
import io
import json
import logging
import math
import sys

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD, Adagrad, Adam, schedules


def model(value=0.0):
    w, x = wyrm.ParameterNode(value, name="w"), wyrm.InputNode((1, 1), name="x")
    return w, x, (w * x - 1.0).square()


def fit(optimizer=None, **options):
    w, x, loss = model()
    optimizer = optimizer(loss.parameters()) if optimizer else SGD(0.1, [w])
    return w, wyrm.fit(loss, {x: np.ones(8)}, optimizer, **options)


class Metrics(wyrm.Callback):
    """Adds a metric whose values are given."""

    def __init__(self, name, values):
        self.name, self.values = name, values

    def end_epoch(self, run):
        run.history[-1].metrics[self.name] = self.values[run.epoch - 1]


# -- history


def test_rows_and_json(backend):
    _, history = fit(num_epochs=3, seed=5, callbacks=[Metrics("accuracy", [0.5, math.nan, -math.inf])])
    assert (history.backend, history.num_threads, history.schedule, history.seed) == (backend, 1, "sequential", 5)
    assert history.examples_per_thread == [24] and history.stopped == ""
    rows = history.rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3] and rows[0]["accuracy"] == 0.5
    assert rows[1]["loss"] == history.losses[1] and rows[2]["examples_per_second"] == history[2].examples_per_second
    assert rows[0]["learning_rate"] == np.float32(0.1)
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0])
    writer.writerows(rows)
    assert len(file.getvalue().splitlines()) == 3
    text = history.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = wyrm.History.from_json(text)
    assert again.losses == history.losses and again.backend == backend and again.seed == 5
    assert math.isnan(again[1].metrics["accuracy"]) and again[2].metrics["accuracy"] == -math.inf
    assert again.to_json() == text


def test_metrics_of_numpy_can_be_written():
    _, history = fit(callbacks=[Metrics("auc", [np.float32(0.25)])])
    assert wyrm.History.from_json(history.to_json())[0].metrics == {"auc": 0.25}


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"epochs": 3}', '{"epochs": [1]}', "[" * 10**5])
def test_other_text_is_no_history(text):
    with pytest.raises(wyrm.OptionError, match="from_json"):
        wyrm.History.from_json(text)


def test_plot(tmp_path):
    metrics = [Metrics("validation_loss", [0.3, 0.2]), Metrics("mrr", [0.1, 0.2])]
    _, history = fit(num_epochs=2, callbacks=metrics)
    figure = history.plot()
    losses, mrr = figure.axes
    assert [line.get_label() for line in losses.lines] == ["loss", "validation_loss"]
    np.testing.assert_array_equal(losses.lines[1].get_data(), [[1, 2], [0.3, 0.2]])
    assert mrr.get_ylabel() == "mrr" and mrr.get_xlabel() == "epoch"
    figure.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
    wyrm.History("reference", 1, 0.0).plot().savefig(tmp_path / "empty.svg")


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(wyrm.CapabilityError, match=r"wyrm-autodiff\[draw\]"):
        wyrm.History("reference", 1, 0.0).plot()


def test_a_seed_that_was_drawn_repeats_the_run(backend, rng):
    xs = rng.standard_normal(50)
    ends, histories = [], []
    for same in (False, True, False):
        w, x, loss = model()
        seed = histories[0].seed if same else None
        histories.append(wyrm.fit(loss, {x: xs}, SGD(0.1, [w]), num_epochs=2, seed=seed))
        ends.append(w.value[0, 0])
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("seed", [-1, 0.5, "a", True])
def test_what_is_no_seed(seed):
    with pytest.raises(wyrm.WyrmError, match="seed"):
        fit(seed=seed)


def test_every_epoch_has_an_order_of_its_own():
    from wyrm.training.order import epoch_order, key_seed

    orders = [epoch_order(seed, epoch, 100).tolist() for seed in (0, 1, 2**40) for epoch in (1, 2, 3)]
    assert len({tuple(order) for order in orders}) == 9
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({key_seed(seed) for seed in range(20)}) == 20


@pytest.mark.parametrize(
    "options",
    [
        {"num_epochs": -1},
        {"backend": "none such"},
        {"callbacks": [3]},
        {"schedule": "synchronized"},
        {"resume": "/none/such"},
        {"progress": 3, "callbacks": [lambda epoch: 1 / 0]},
    ],
)
def test_every_exception_carries_the_history(options):
    """Also of what is refused before anything begins."""
    with pytest.raises((wyrm.WyrmError, OSError, ZeroDivisionError)) as caught:
        fit(**options)
    assert isinstance(caught.value.history, wyrm.History)


# -- messages


def test_messages(backend, caplog):
    with caplog.at_level(logging.DEBUG, "wyrm"):
        fit(num_epochs=2, seed=7, callbacks=[Metrics("mrr", [0.5, 0.25])])
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "INFO", "INFO"]
    assert f"fit on {backend}, 1 threads, schedule sequential" in caplog.text and "seed 7" in caplog.text
    assert "epoch 2 of 2: loss " in caplog.text and "mrr 0.25" in caplog.text


def test_nothing_is_shown_unless_it_is_wanted(capfd):
    fit(num_epochs=2)
    assert capfd.readouterr() == ("", "")


def test_the_progress_bar_shows_loss_and_metrics(capsys):
    fit(num_epochs=2, progress=True, callbacks=[Metrics("mrr", [0.5, 0.25])])
    shown = capsys.readouterr().err
    assert "16.0/16.0" in shown and "examples/s" in shown and "loss=" in shown and "mrr=0.25" in shown


# -- callbacks


class Recorder(wyrm.Callback):
    def __init__(self):
        self.calls = []

    def begin(self, run):
        self.calls.append(("begin", run.epoch))

    def begin_epoch(self, run):
        self.calls.append(("begin_epoch", run.epoch))

    def end_epoch(self, run):
        self.calls.append(("end_epoch", run.epoch))

    def end(self, run):
        self.calls.append(("end", run.epoch, type(run.error)))


def test_a_callback_is_called_around_training_and_every_epoch():
    recorder = Recorder()
    fit(num_epochs=2, callbacks=[recorder])
    epochs = [("begin_epoch", 0), ("end_epoch", 1), ("begin_epoch", 1), ("end_epoch", 2)]
    assert recorder.calls == [("begin", 0), *epochs, ("end", 2, type(None))]


def test_a_callback_can_end_training_and_set_the_rate():
    rates = []

    class Own(wyrm.Callback):
        def end_epoch(self, run):
            rates.append(run.history[-1].learning_rate)
            run.optimizers[0].learning_rate *= 0.5
            assert [node.name for node in run.parameters] == ["w"]
            if run.epoch == 3:
                run.stop("enough")

    _, history = fit(num_epochs=9, callbacks=[Own()])
    assert len(history) == 3 and history.stopped == "enough"
    assert rates == [np.float32(0.1), np.float32(0.05), np.float32(0.025)]


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["begin", "begin_epoch", "end_epoch", "end"])
def test_an_exception_takes_the_history_along(backend, kind, when):
    """And parameters are as the last step left them."""
    recorder = Recorder()
    w, x, loss = model()
    optimizer = SGD(0.1, [w], momentum=0.5)

    class Failing(wyrm.Callback):
        pass

    def fail(self, run):
        if run.epoch == {"begin": 0, "begin_epoch": 1, "end_epoch": 2, "end": 3}[when]:
            raise kind("on purpose")

    setattr(Failing, when, fail)
    with pytest.raises(kind, match="on purpose") as info:
        wyrm.fit(loss, {x: np.ones(8)}, optimizer, num_epochs=3, callbacks=[recorder, Failing()])
    epochs = {"begin": 0, "begin_epoch": 1, "end_epoch": 2, "end": 3}[when]
    assert [epoch.number for epoch in info.value.history] == list(range(1, epochs + 1))
    assert recorder.calls[-1] == ("end", epochs, type(None) if when == "end" else kind)
    assert optimizer.steps == 8 * epochs
    whole, x, loss = model()
    wyrm.fit(loss, {x: np.ones(8)}, SGD(0.1, [whole], momentum=0.5), num_epochs=epochs)
    assert w.value == whole.value


def test_ctrl_c_while_training_is_got_ready_leaves_a_history_without_epochs():
    slope = wyrm.ParameterNode(0.0)

    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        wyrm.fit(interrupted, {"x": np.ones(3)}, SGD(0.1, [slope]), seed=7)
    assert caught.value.history.epochs == [] and caught.value.history.seed == 7


def test_what_is_no_callback():
    for wrong in (3, wyrm.EarlyStopping):
        with pytest.raises(wyrm.DTypeError, match="callbacks"):
            fit(callbacks=[wrong])


def test_early_stopping():
    values = [5.0, 3.0, 4.0, 2.95, 3.5, 3.2, 1.0, 0.5]
    cases = [
        ({"patience": 1}, 3),
        ({"patience": 2}, 6),
        ({"patience": 2, "min_delta": 0.1}, 4),
        ({"patience": 3}, 8),
        ({"patience": 1, "mode": "max"}, 2),
    ]
    for options, expected in cases:
        metric = Metrics("validation_loss", values)
        _, history = fit(num_epochs=8, callbacks=[metric, wyrm.EarlyStopping(**options)])
        assert len(history) == expected, options
        assert bool(history.stopped) == (expected < 8)
    nan = Metrics("validation_loss", [math.nan] * 8)
    _, history = fit(num_epochs=8, callbacks=[nan, wyrm.EarlyStopping(patience=2)])
    assert len(history) == 2 and "at all" in history.stopped
    _, history = fit(
        num_epochs=8, callbacks=[Metrics("auc", [0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 1, 1]), wyrm.EarlyStopping("auc", mode="max")]
    )
    assert len(history) == 6 and history.stopped == "auc has not got better since epoch 3"


@pytest.mark.parametrize("optimizer", [lambda p: Adam(schedules.cosine(0.1, 40), p), lambda p: SGD(0.1, p, momentum=0.9)])
def test_early_stopping_restores_the_best(backend, optimizer):
    """Parameters and what optimizers keep: training that goes on is as if the later epochs had not been."""
    w, x, loss = model()
    trained = optimizer([w])
    metric = Metrics("validation_loss", [3.0, 2.0, 2.5, 2.5, 2.5])
    stopping = wyrm.EarlyStopping(patience=2, restore_best=True)
    wyrm.fit(loss, {x: np.ones(8)}, trained, num_epochs=5, callbacks=[metric, stopping])
    assert trained.steps == 16
    wyrm.fit(loss, {x: np.ones(8)}, trained)
    whole, x, loss = model()
    wyrm.fit(loss, {x: np.ones(8)}, optimizer([whole]), num_epochs=3)
    assert w.value == whole.value


def test_learning_rates_by_epoch(backend):
    w, x = wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1))
    v = wyrm.ParameterNode(0.0)
    optimizers = [SGD(schedules.cosine(0.5, 10), [w]), Adagrad(0.5, [v])]
    by_epoch = wyrm.LearningRate(lambda epoch: 1.0 / epoch)
    history = wyrm.fit(w * x + v, {x: [1.0]}, optimizers, num_epochs=2, callbacks=[by_epoch])
    assert w.value == -1.5
    assert [epoch.learning_rate for epoch in history] == [1.0, 0.5]
    assert optimizers[1].learning_rate == 0.5


def test_options_of_callbacks():
    for wrong in (
        lambda: wyrm.EarlyStopping(patience=0),
        lambda: wyrm.EarlyStopping(min_delta=-1),
        lambda: wyrm.EarlyStopping(min_delta=math.nan),
        lambda: wyrm.EarlyStopping(mode="least"),
        lambda: wyrm.Checkpoint("x", every=0),
        lambda: wyrm.Checkpoint("x", mode="least"),
        lambda: wyrm.LearningRate(0.5),
        lambda: fit(callbacks=[wyrm.EarlyStopping("mrr")]),
        lambda: fit(callbacks=[wyrm.LearningRate(lambda epoch: -1.0)]),
    ):
        with pytest.raises(wyrm.WyrmError):
            wrong()
    with pytest.raises(wyrm.OptionError, match="'mrr', but 'loss', 'auc'"):
        fit(callbacks=[Metrics("auc", [1.0]), wyrm.EarlyStopping("mrr")])
