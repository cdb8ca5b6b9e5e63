"""Kills training that checkpoints, at random instants, and checks after each kill that the file is whole.

    python tests/kill_checkpoints.py --kills 200

A child trains with a checkpoint after every epoch, and goes on from the file when it is started anew. After each kill (SIGKILL)
the file must load, hold one epoch's parameters and momentum and no mixture of two, and be no older than the last epoch that the
child has announced.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import wyrm
from wyrm.optim import SGD

ROWS, COLUMNS, RATE, MOMENTUM = 512, 1024, 2.0**-10, 0.5


class _Announce(wyrm.Callback):
    """Says how many epochs are safely in the file."""

    def end_epoch(self, run: wyrm.Run) -> None:
        print(run.epoch, flush=True)


def child(path: str) -> None:
    """Train for ever: the gradient is 1 everywhere, so every element is the same function of the epoch."""
    w, x = wyrm.ParameterNode(np.zeros((ROWS, COLUMNS)), name="w"), wyrm.InputNode((1, 1))
    loss = (w * x).scalar_sum()
    resume = path if os.path.exists(path) else None
    callbacks = [wyrm.Checkpoint(path), _Announce()]
    optimizer = SGD(RATE, [w], momentum=MOMENTUM)
    wyrm.fit(loss, {x: [1.0]}, optimizer, num_epochs=10**9, callbacks=callbacks, resume=resume, backend="reference")


def check(path: str, announced: int) -> int:
    """The epoch of the file; raises where it is not whole."""
    w = wyrm.ParameterNode(np.zeros((ROWS, COLUMNS)), name="w")
    optimizer = SGD(RATE, [w], momentum=MOMENTUM)
    saved = wyrm.load(path, [w], optimizer)
    assert saved.run is not None
    epoch: int = saved.run["epoch"]
    value = velocity = np.float32(0)
    for _ in range(epoch):
        velocity = np.float32(MOMENTUM) * velocity + np.float32(1)
        value = value - np.float32(RATE) * velocity
    state = optimizer.state_dict()
    assert announced <= epoch <= announced + 1, f"epoch {epoch}, but {announced} was announced"
    assert state["steps"] == epoch, f"{state['steps']} steps in epoch {epoch}"
    assert (w.value == value).all(), f"epoch {epoch}: parameters are not those of one epoch"
    assert (state["0.momentum.velocity"] == velocity).all(), f"epoch {epoch}: momentum is not that of one epoch"
    return epoch


def kill(kills: int, seed: int, longest: float = 0.1) -> dict[str, float]:
    """Start, kill and check so many times.

    Parameters
    ----------
    longest
        How many seconds a child lives at most after its first checkpoint.

    Returns
    -------
    dict
        The number of kills, the epochs made, and how many kills fell into the writing and left an unfinished file behind.
    """
    generator = random.Random(seed)
    announced, unfinished = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "run.safetensors")
        command = [sys.executable, __file__, "--child", path]
        for number in range(kills):
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                first = process.stdout.readline()
                time.sleep(generator.uniform(0, longest))
                process.kill()
                lines = [first, *process.stdout.read().splitlines()]
            announced = max([announced, *(int(line) for line in lines if line.strip().isdigit())])
            try:
                announced = check(path, announced)
            except Exception as error:
                raise AssertionError(f"kill {number} of seed {seed}: {type(error).__name__}: {error}") from error
            left = [file for file in Path(folder).iterdir() if str(file) != path]
            unfinished += bool(left)
            assert len(left) <= 1, f"kill {number}: what earlier kills left behind is still there: {left}"
    return {"kills": kills, "epochs": announced, "unfinished": unfinished}


def main() -> None:
    """Kill as often as is asked for, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", metavar="PATH", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    began = time.perf_counter()
    report = kill(options.kills, options.seed)
    print(
        f"{report['kills']} kills, {report['unfinished']} of them while a file was being written, over {report['epochs']} "
        f"epochs: after each the file was whole ({time.perf_counter() - began:.0f} s)"
    )


if __name__ == "__main__":
    main()
