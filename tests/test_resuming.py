"""Runs that go on from a checkpoint: to the bit, on any number of threads, in another process; and what cannot."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from checkpointed_model import OPTIMIZERS, Model, assert_same

import wyrm


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
