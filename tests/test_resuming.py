"""Runs that go on from a checkpoint: to the bit, on any number of threads, in another process; and what cannot."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from checkpointed_model import OPTIMIZERS, Model, assert_same
from safetensors import safe_open

import wyrm
from wyrm.checkpoints.files import read_file, write_file


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
    from checkpointed_model import Model

    backend, optimizer, path, resume, epochs, out = sys.argv[1:]
    model = Model(optimizer)
    options = {"resume": path} if resume == "yes" else {"seed": 5}
    history = model.fit(int(epochs), backend=backend, callbacks=[wyrm.Checkpoint(path)], **options)
    np.savez(out, *model.values(), losses=history.losses)
"""


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["momentum and decay by schedule", "adamw"])
def test_a_run_resumed_in_a_new_process_ends_with_the_same_bits(backend, optimizer, tmp_path):
    def run(name, path, resume, epochs):
        command = [sys.executable, "-c", textwrap.dedent(RESUMED), backend, optimizer, str(tmp_path / path), resume, epochs]
        environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
        subprocess.run([*command, str(tmp_path / name)], check=True, env=environment)

    run("half.npz", "run", "no", "2")
    run("resumed.npz", "run", "yes", "5")
    whole = Model(optimizer)
    history = whole.fit(5, seed=5, callbacks=[wyrm.Checkpoint(tmp_path / "whole")])
    with np.load(tmp_path / "resumed.npz") as resumed:
        np.testing.assert_array_equal(resumed["losses"], history.losses)
        for number, expected in enumerate(whole.values()):
            np.testing.assert_array_equal(resumed[f"arr_{number}"], expected)


def test_early_stopping_goes_on_where_it_was(tmp_path):
    values = [3.0, 2.0, 2.5, 2.5, 2.5, 2.5]

    def callbacks():
        def metric(epoch):
            epoch.metrics["validation_loss"] = values[epoch.number - 1]

        return [metric, wyrm.EarlyStopping(patience=3, restore_best=True), wyrm.Checkpoint(tmp_path / "m")]

    Model("adam").fit(3, seed=1, callbacks=callbacks())
    history = Model("adam").fit(9, callbacks=callbacks(), resume=tmp_path / "m")
    assert len(history) == 5 and history.stopped


METRIC = [0.5, 0.9, 0.8, 0.7, 0.6, 0.5]


def stopping(path, order="checkpoint last", patience=2, restore_best=True, fails=None):
    def metric(epoch):
        epoch.metrics["m"] = METRIC[epoch.number - 1]

    class Fails(wyrm.Callback):
        def begin_epoch(self, run):
            if run.epoch == fails:
                raise KeyboardInterrupt

    early = wyrm.EarlyStopping("m", patience=patience, mode="max", restore_best=restore_best)
    both = [early, wyrm.Checkpoint(path)]
    return [metric, *(both if order == "checkpoint last" else both[::-1]), Fails()]


@pytest.mark.parametrize("order", ["checkpoint last", "checkpoint first"])
@pytest.mark.parametrize("optimizer", ["momentum and decay by schedule", "adam"])
def test_a_run_that_stopped_early_stays_stopped(optimizer, order, tmp_path):
    """Resumed as often as one likes: the same history, and the best epoch's parameters and optimizer."""
    best, stopped = Model(optimizer), Model(optimizer)
    best.fit(2, seed=1)
    first = stopped.fit(6, seed=1, callbacks=stopping(tmp_path / "m", order))
    assert len(first) == 4 and first.stopped == "m has not got better since epoch 2"
    assert_same(best, stopped)
    for epochs in (6, 9, 4):
        again = Model(optimizer)
        history = again.fit(epochs, callbacks=stopping(tmp_path / "m", order), resume=tmp_path / "m")
        assert history.epochs == first.epochs and history.stopped == first.stopped
        assert_same(best, again)
    if order == "checkpoint last":  # a run that has stopped has ended, whoever asks
        assert len(Model(optimizer).fit(6, resume=tmp_path / "m")) == 4


@pytest.mark.parametrize("fails", [1, 2, 3])
def test_the_best_survives_an_interruption(fails, tmp_path):
    """Between the best epoch and the end, in another process; checkpoints hold it once, or not at all if they are it."""
    best, cut, on = Model("adamw"), Model("adamw"), Model("adamw")
    best.fit(2, seed=1)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(6, seed=1, callbacks=stopping(tmp_path / "m", fails=fails))
    with safe_open(tmp_path / "m", "np") as file:
        assert any(name.startswith("kept") for name in file.keys()) == (fails > 2)  # noqa: SIM118
    history = on.fit(6, callbacks=stopping(tmp_path / "m"), resume=tmp_path / "m")
    assert len(history) == 4
    assert_same(best, on)


def test_a_best_that_is_in_no_checkpoint_is_told(tmp_path, caplog):
    Model("sgd").fit(3, seed=1, callbacks=stopping(tmp_path / "m", restore_best=False, patience=5))
    on = Model("sgd")
    on.fit(4, callbacks=stopping(tmp_path / "n", patience=5), resume=tmp_path / "m")
    assert "the best epoch, 2, cannot be put back" in caplog.text
    whole = Model("sgd")
    whole.fit(4, seed=1)
    assert_same(whole, on)


def test_a_kept_state_of_another_model_changes_nothing(tmp_path):
    """Nor one that is damaged: all of a checkpoint is compared before anything is put back."""
    path = tmp_path / "m"
    Model("adam").fit(3, seed=1, callbacks=stopping(path, patience=5))
    arrays, document = read_file(path)
    entry = document["run"]["kept"][0]
    name = next(name for name in arrays if name.startswith("kept"))
    for changed, without in (
        ({**entry, "epoch": "2"}, None),
        ({**entry, "description": {}}, None),
        (3, None),
        (entry, name),
    ):
        run = {**document["run"], "kept": [changed]}
        write_file(path, {n: a for n, a in arrays.items() if n != without}, {**document, "run": run})
        model = Model("adam")
        before = model.values()
        with pytest.raises(wyrm.CheckpointError):
            model.fit(4, resume=path)
        for a, b in zip(model.values(), before, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "what", ["rate of 400 digits", "rate beyond float32", "steps", "examples", "number", "metric", "stopped"]
)
def test_numbers_that_no_type_holds_change_nothing(what, tmp_path):
    path = tmp_path / "m"
    Model("adam").fit(1, seed=1, callbacks=[wyrm.Checkpoint(path)], backend="reference")
    arrays, document = read_file(path)
    optimizer, history = document["optimizers"][0], json.loads(document["run"]["history"])
    if what == "steps":
        optimizer["steps"] = 2**63 - 1
    elif what.startswith("rate"):
        optimizer["groups"][0]["options"]["learning_rate"] = 10**400 if "400" in what else 1e39
    elif what == "metric":
        history["epochs"][0]["metrics"]["m"] = 10**400
    elif what == "stopped":
        history["stopped"] = 1
    else:
        history["epochs"][0][what] = "inf"
    document["run"]["history"] = json.dumps(history)
    write_file(path, arrays, document)
    model = Model("adam")
    before = model.values()
    with pytest.raises(wyrm.CheckpointError, match="learning rate|number of steps|history|History"):
        model.fit(3, resume=path, backend="reference")
    for a, b in zip(model.values(), before, strict=True):
        np.testing.assert_array_equal(a, b)


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


def test_a_seed_below_0_is_refused_by_the_name_of_the_file(tmp_path):
    path = tmp_path / "m"
    Model("sgd").fit(1, seed=1, callbacks=[wyrm.Checkpoint(path)], backend="reference")
    arrays, document = read_file(path)
    document["run"]["options"]["seed"] = -1
    write_file(path, arrays, document)
    with pytest.raises(wyrm.CheckpointError, match="/m: expected the run's seed to be at least 0, found -1"):
        Model("sgd").fit(2, resume=path, backend="reference")
