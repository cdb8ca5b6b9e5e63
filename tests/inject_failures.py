"""Lets the n-th allocation, write or thread of a training run fail, for every n, and checks what is left each time.

    python tests/inject_failures.py --backend c_simd             # every n of every kind, in minutes
    python tests/inject_failures.py --backend numba --step 97    # every 97th

Models train with a checkpoint after each epoch, in a process with ``failures.c`` in front of the C library. After a failure
there is an exception that says what it is and has the history; parameters and optimizers are those of a whole number of steps,
as a run without failures made them; no thread is left; the checkpoint loads, and is that of an epoch; and the same objects go
on from it to the same bits. Loading a checkpoint is interrupted likewise: nothing has changed then, or all of it.

Failures also stay: from the n-th on, every call of a kind fails until training has ended, as on a disk that is full. And 200
trainings that fail, each at another call, leave no more files open and no more memory taken than a few of them do.

Kinds: ``arrays``, those of NumPy; ``native``, memory of native code; ``files``, calls that have to do with the checkpoint, for
several errors; ``threads``. With ``--objects`` also ``objects``, those of Python, one in ten: in some places NumPy itself does
not survive that (of ``__array_interface__``, for instance), so a crash there is no finding.
"""

from __future__ import annotations

import argparse
import errno
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from failures import SHORT, Failing, build, testcapi

import wyrm
from wyrm import nn
from wyrm.optim import SGD, Adam

#: What is raised: of objects, NumPy has places that lose the exception, and the reader of files gives up in others.
EXPECTED = {
    "arrays": MemoryError,
    "native": MemoryError,
    "objects": (MemoryError, SystemError, wyrm.CheckpointError),
    "files": OSError,
    "threads": wyrm.ThreadError,
}
EXAMPLES, EPOCHS = 9, 2


class Draws:
    """Bags, numbers drawn from what is left, dropout, rows that momentum and decay leave behind; one thread."""

    options = {"num_threads": 1}

    def __init__(self) -> None:
        wyrm.InputNode((1, 1), 0.0).square().forward()  # a graph of its own, so random keys are the same
        rng = np.random.default_rng(3)
        users = wyrm.ParameterNode(0.1 * rng.normal(size=(12, 3)), name="users")
        items = wyrm.ParameterNode(0.1 * rng.normal(size=(10, 3)), name="items")
        layer = nn.Linear(3, 1, rng=1)
        user, bag, y = wyrm.IndexInputNode(), wyrm.BagInputNode(), wyrm.InputNode((1, 1))
        seldom = wyrm.Frequencies([10**9] * 9 + [1])  # all but the last one, in most attempts
        negative = wyrm.SampledIndexNode(seldom, exclude=bag)
        hidden = (users.index(user) * (items.index_sum(bag) - items.index(negative))).dropout(0.2)
        self.model = (layer(hidden) - y).square()
        self.optimizer = SGD(0.01, [users, items, *layer.parameters()], momentum=0.9, weight_decay=0.1)
        bags = [np.arange(9)[: [1, 2, 9, 1, 8, 2, 9, 2, 1][n]] for n in range(EXAMPLES)]
        self.data = {user: rng.integers(0, 12, EXAMPLES), bag: bags, y: rng.normal(size=EXAMPLES)}

    def feed(self, examples: int) -> dict[object, object]:
        """The first examples."""
        cut = {key: values[:examples] for key, values in self.data.items()}
        return {key: wyrm.Bags.from_lists(v) if isinstance(v, list) else v for key, v in cut.items()}

    def fit(self, num_epochs: int, examples: int = EXAMPLES, **options: object) -> wyrm.History:
        """Train; the data are made before anything fails."""
        return self.trained(self.feed(examples), num_epochs, **options)

    def trained(self, feed: dict[object, object], num_epochs: int, **options: object) -> wyrm.History:
        """Train on a feed, in the order of its examples."""
        how = {"shuffle": False, "seed": 1, **self.options, **options}
        return wyrm.fit(self.model, feed, self.optimizer, num_epochs=num_epochs, **how)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that training has changed: rows that are behind, as they would be."""
        values = {f"value {n}": p.value.copy() for n, p in enumerate(self.optimizer.parameters)}
        return values | {k: v for k, v in self.optimizer.state_dict().items() if ".missed." not in k}


class Sequences(Draws):
    """A function of sequences, batch by batch on two threads."""

    options = {"num_threads": 2, "schedule": "synchronized", "batch_size": 3}

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.table, self.layer = wyrm.ParameterNode(rng.normal(size=(10, 3)), name="table"), nn.Linear(3, 1, rng=1)
        self.optimizer = Adam(0.01, [self.table, *self.layer.parameters()])
        words = [rng.integers(0, 10, [1, 2, 3, 1, 2, 2, 1, 3, 2][n]) for n in range(EXAMPLES)]
        self.data = {"words": words, "y": rng.normal(size=EXAMPLES)}

    def model(self, words: list[wyrm.Node], y: wyrm.Node) -> wyrm.Node:
        """The loss."""
        return (self.layer(sum(self.table.index(word) for word in words).dropout(0.2)) - y).square()

    def feed(self, examples: int) -> dict[object, object]:
        """The first examples."""
        return {"words": wyrm.Ragged.of(self.data["words"][:examples]), "y": self.data["y"][:examples]}


class Hogwild(Sequences):
    """The same on threads that share parameters without locks: no bits are promised."""

    options = {"num_threads": 2, "schedule": "hogwild"}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    """Whether two states are, to the bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def clean(kind: type[Draws]) -> dict[int, dict[str, np.ndarray]]:
    """The states after each step of a run without failures, by their numbers."""
    batch, states = kind.options.get("batch_size", 1), {}
    for epochs, examples in itertools.product(range(EPOCHS), range(0, EXAMPLES + 1, batch)):
        trained = kind()
        if epochs:
            trained.fit(epochs)
        if examples:
            trained.fit(1, examples)
        states.setdefault(trained.optimizer.steps, trained.state())
    return states


class Sweep:
    """The failures of one kind in a run of one model."""

    lasting = False

    def __init__(self, model: type[Draws], kind: str, folder: Path, error: int = 0) -> None:
        self.model, self.kind, self.error = model, kind, error
        self.exact = model is not Hogwild
        self.path, self.start = folder / "run", folder / "start"
        self.path.unlink(missing_ok=True)
        self.states = clean(model) if self.exact else {}
        begun = model()
        wyrm.save(self.start, begun.optimizer.parameters, begun.optimizer)
        begun.fit(EPOCHS)
        self.end = begun.state()
        self.wrong: list[str] = []

    def run(self, first: int, step: int, most: int) -> int:
        """Every so many failures, until there is none; returns how many there were."""
        for count, n in enumerate(range(first, most, step)):
            try:
                if self._passes(n):
                    return count
            except Exception as error:
                self.wrong.append(f"{n}: {type(error).__name__}: {error}")
        return -(-most // step)

    def _passes(self, n: int) -> bool:
        trained = self.model()
        feed, callbacks = trained.feed(EXAMPLES), [wyrm.Checkpoint(self.path)]
        raised = None
        try:
            with Failing(self.kind, n, self.error, self.lasting) as failing:
                trained.trained(feed, EPOCHS, callbacks=callbacks)
        except BaseException as error:
            raised = error
        if raised is not None:
            self._check_error(n, raised)
        self._check_state(n, trained)
        self._go_on(n, trained)
        return raised is None and self.kind != "objects" and failing.made <= n

    def _check_error(self, n: int, error: BaseException) -> None:
        if not isinstance(error, EXPECTED[self.kind]):
            self.wrong.append(f"{n}: raised {type(error).__name__}: {error}")
        if self.kind == "files" and not str(error.filename).startswith(str(self.path.parent)):
            self.wrong.append(f"{n}: does not name the file: {error}")
        if not isinstance(getattr(error, "history", None), wyrm.History) and not (self.kind == "objects" and n < 10):
            self.wrong.append(f"{n}: has no history")  # the first objects are those of the call

    def _check_state(self, n: int, trained: Draws) -> None:
        busy = [p for p in trained.optimizer.parameters if p._gradient is not None and p._gradient.busy[0]]
        if threading.active_count() > 1 or trained.optimizer._runs or busy:
            self.wrong.append(f"{n}: threads, owners or gradients are not let go")
        if self.exact and not same(trained.state(), self.states.get(trained.optimizer.steps, {})):
            self.wrong.append(f"{n}: not the state after {trained.optimizer.steps} steps")

    def _go_on(self, n: int, trained: Draws) -> None:
        """From the checkpoint, or from the beginning."""
        resume = self.path if self.path.exists() else None
        if resume is None:
            wyrm.load(self.start, trained.optimizer.parameters, trained.optimizer)
        trained.fit(EPOCHS, resume=resume, callbacks=[wyrm.Checkpoint(self.path)])
        if self.exact and not same(trained.state(), self.end):
            self.wrong.append(f"{n}: goes on to other bits")
        wyrm.save(self.path, trained.optimizer.parameters)
        left = [name for name in os.listdir(self.path.parent) if name.endswith(".partial")]
        if left:
            self.wrong.append(f"{n}: leaves {left} behind")
        self.path.unlink()


class Loading(Sweep):
    """The failures of one kind as a checkpoint is loaded."""

    def _passes(self, n: int) -> bool:
        trained = self.model()
        wyrm.save(self.path, trained.optimizer.parameters, trained.optimizer)
        before = trained.state()
        trained.fit(1)
        later = trained.state()
        raised = None
        try:
            with Failing(self.kind, n, self.error, self.lasting) as failing:
                wyrm.load(self.path, trained.optimizer.parameters, trained.optimizer)
        except BaseException as error:
            raised = error
            if not isinstance(error, EXPECTED[self.kind]):
                self.wrong.append(f"{n}: raised {type(error).__name__}: {error}")
        if not same(trained.state(), before if raised is None else later):
            self.wrong.append(f"{n}: a load that raises {raised!r} has changed something")
        return raised is None and self.kind != "objects" and failing.made <= n


class Lasting(Sweep):
    """Failures that stay until training has ended."""

    lasting = True


class LastingLoading(Loading):
    """Likewise, as a checkpoint is loaded."""

    lasting = True


class Growing(Lasting):
    """Trainings of the same model that fail, one after the other; and what they leave in the process."""

    #: Trainings before the process is looked at, and between two looks; bytes by which it may grow in these.
    FIRST, COUNT, MOST = 50, 200, 2 << 20

    def run(self, first: int, step: int, most: int) -> int:
        """All of them, or an eighth if not every failure is looked at; returns how many failed."""
        trained, each = self.model(), self.COUNT // (1 if step == 1 else 8)
        feed, failed, looks = trained.feed(EXAMPLES), 0, []
        with Failing(self.kind, sys.maxsize) as whole:
            trained.trained(feed, EPOCHS, callbacks=[wyrm.Checkpoint(self.path)])
        for number in range(self.FIRST + 2 * each):
            if number >= self.FIRST and (number - self.FIRST) % each == 0:
                looks.append(self._looked())
            try:
                with Failing(self.kind, number * 7 % max(whole.made, 1), self.error, self.lasting):
                    trained.trained(feed, EPOCHS, callbacks=[wyrm.Checkpoint(self.path)])
            except EXPECTED[self.kind]:
                failed += 1
        looks.append(self._looked())
        files, memory = zip(*looks, strict=True)
        if files[-1] > files[0]:
            self.wrong.append(f"files that are open: {files}")
        if min(b - a for a, b in itertools.pairwise(memory)) > self.MOST:  # once, a table may grow
            self.wrong.append(f"bytes that are taken: {memory}")
        return failed

    @staticmethod
    def _looked() -> tuple[int, int]:
        """How many files are open, and how many bytes are in memory."""
        gc.collect()
        with open("/proc/self/statm") as file:
            return len(os.listdir("/proc/self/fd")), int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


#: What is done, with how many failures there may be at most. Of the objects of Python nobody says how many there are.
SWEEPS = (
    (Sweep, Draws, "arrays", 0, 10**6),
    (Sweep, Sequences, "arrays", 0, 10**6),
    (Sweep, Hogwild, "arrays", 0, 10**6),
    (Sweep, Draws, "native", 0, 10**6),
    (Sweep, Draws, "objects", 0, 20_000),
    (Sweep, Sequences, "objects", 0, 20_000),
    (Sweep, Draws, "files", errno.ENOSPC, 10**6),
    (Sweep, Draws, "files", errno.EIO, 10**6),
    (Sweep, Draws, "files", errno.EDQUOT, 10**6),
    (Sweep, Draws, "files", SHORT, 10**6),
    (Sweep, Sequences, "threads", 0, 10**6),
    (Sweep, Hogwild, "threads", 0, 10**6),
    (Loading, Draws, "arrays", 0, 10**6),
    (Loading, Draws, "objects", 0, 15_000),
    (Lasting, Draws, "arrays", 0, 10**6),
    (Lasting, Sequences, "arrays", 0, 10**6),
    (Lasting, Draws, "native", 0, 10**6),
    (Lasting, Draws, "files", errno.ENOSPC, 10**6),
    (Lasting, Sequences, "threads", 0, 10**6),
    (LastingLoading, Draws, "arrays", 0, 10**6),
    (Growing, Draws, "arrays", 0, 0),
    (Growing, Sequences, "arrays", 0, 0),
    (Growing, Draws, "files", errno.ENOSPC, 0),
    (Growing, Sequences, "threads", 0, 0),
)
#: Kinds of which there are few: every one fails, whatever the step; of files, by one of the errors.
FEW = {"native": 1, "threads": 1, "files": 4}


def _child(backend: str, step: int, objects: bool) -> int:
    warnings.simplefilter("ignore")
    wrong = 0
    with wyrm.use_backend(backend), tempfile.TemporaryDirectory() as folder:
        Failing.prepare(folder)
        for number, (sweep, model, kind, error, most) in enumerate(SWEEPS):
            if kind == "objects" and not (objects and testcapi):
                continue
            began = time.process_time()
            made = sweep(model, kind, Path(folder), error)
            width = min(step, FEW[kind]) if kind in FEW else step * (10 if kind == "objects" else 1)
            count = made.run(number % width, width, most)
            seconds = time.process_time() - began
            what = f"{sweep.__name__.lower()} {model.__name__.lower()}: {count} failures of {kind}"
            print(f"{what}{f' ({error})' if error else ''}, {len(made.wrong)} wrong, {seconds:.1f} s", flush=True)
            print("\n".join(f"    {line}" for line in made.wrong[:10]), end="\n" if made.wrong else "", flush=True)
            wrong += len(made.wrong)
    return int(wrong > 0)


def inject(backend: str, step: int, objects: bool = False, **options: object) -> subprocess.CompletedProcess[str]:
    """Do all of it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "LD_PRELOAD": build(Path(folder))}
        command = [sys.executable, __file__, "--child", "--backend", backend, "--step", str(step)]
        command += ["--objects"] if objects else []
        return subprocess.run(command, env=environment, text=True, check=False, **options)


def main() -> int:
    """Report on a backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=wyrm.get_backend().name)
    parser.add_argument("--step", type=int, default=1, help="let every so many fail, of those of which there are many")
    parser.add_argument("--objects", action="store_true", help="objects of Python, too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options.backend, options.step, options.objects)
    return inject(options.backend, options.step, options.objects).returncode


if __name__ == "__main__":
    sys.exit(main())
