"""Which backend is taken, and in which order the ways of saying so count."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import wyrm
from wyrm import selection
from wyrm.frontend.mode import is_evaluating

NAMES = [status.name for status in wyrm.backends() if status.state != "broken"]


def taken():
    y = wyrm.InputNode((1, 1), 1.0) * 2.0
    y.forward()
    return y._workspace.binding.backend.name


def test_by_priority():
    assert taken() == NAMES[0]
    priorities = [status.priority for status in wyrm.backends()]
    assert priorities == sorted(priorities, reverse=True)


@pytest.mark.parametrize("name", NAMES)
def test_by_variable(monkeypatch, name):
    monkeypatch.setenv("WYRM_BACKEND", name)
    assert taken() == name
    monkeypatch.setenv("WYRM_BACKEND", "")
    assert taken() == NAMES[0]


def test_by_variable_unknown(monkeypatch):
    monkeypatch.setenv("WYRM_BACKEND", "nope")
    with pytest.raises(wyrm.UnknownBackendError, match="WYRM_BACKEND=nope: there is no backend 'nope'; installed are"):
        taken()


@pytest.mark.parametrize("name", NAMES)
def test_by_use_backend(monkeypatch, name):
    monkeypatch.setenv("WYRM_BACKEND", "reference")
    wyrm.use_backend(name)
    assert taken() == name


def test_use_backend_as_a_context_manager():
    wyrm.use_backend("reference")
    for name in NAMES:
        with wyrm.use_backend(name):
            assert taken() == name
            with wyrm.use_backend("reference"):
                assert taken() == "reference"
            assert taken() == name
        assert taken() == "reference"
    with pytest.raises(ZeroDivisionError), wyrm.use_backend(NAMES[0]):
        raise ZeroDivisionError
    assert taken() == "reference"
    with pytest.raises(wyrm.UnknownBackendError):
        wyrm.use_backend("nope")
    assert taken() == "reference"


@pytest.mark.parametrize("name", NAMES)
def test_by_argument(name):
    wyrm.use_backend("reference")
    y = wyrm.InputNode((1, 1), 1.0) * 2.0
    y.forward(backend=name)
    assert y._workspace.binding.backend.name == name
    x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(0.0)
    assert wyrm.fit(x * w, {x: [1.0]}, wyrm.optim.SGD(0.1, [w]), backend=name).backend == name
    assert wyrm.evaluate(x * w, {x: [1.0]}, backend=wyrm.get_backend(name))[0] == pytest.approx(-0.1)


def test_a_graph_is_bound_at_its_first_run():
    y = wyrm.InputNode((1, 1), 1.0) * 2.0
    y.forward(backend="reference")
    with wyrm.use_backend(NAMES[0]):
        y.forward()
    assert y._workspace.binding.backend.name == "reference"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_variable_changes_the_backend_of_an_unchanged_script(name):
    script = "import wyrm; y = wyrm.InputNode((1, 1), 2.0).square(); y.forward(); print(wyrm.get_backend().name, y.value)"
    environment = {**os.environ, "WYRM_BACKEND": name}
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert process.stdout == f"{name} [[4.]]\n"


def test_a_block_is_that_of_the_thread_that_entered_it():
    inside, left = threading.Event(), threading.Event()
    found = []

    def other():
        inside.wait(60)
        found.append(taken())  # another thread sees nothing of the block, and blocks of its own do not end it
        with wyrm.use_backend(NAMES[-1]):
            found.append(taken())
            left.set()
        found.append(taken())

    thread = threading.Thread(target=other)
    thread.start()
    with wyrm.use_backend("reference"):
        inside.set()
        left.wait(60)
        assert taken() == "reference"
        thread.join()
        assert taken() == "reference"
        started = threading.Thread(target=lambda: found.append(taken()))
        started.start()
        started.join()
    assert found == [NAMES[0], NAMES[-1], NAMES[0], NAMES[0]]
    assert taken() == NAMES[0]


def test_blocks_that_threads_enter_at_the_same_time_leave_nothing():
    """Calls before blocks meet in any order."""
    first, second = wyrm.use_backend("reference"), wyrm.use_backend(NAMES[0])
    with first, second:
        assert taken() == NAMES[0]
    assert selection._process == []
    wyrm.use_backend("reference")
    first, second = wyrm.use_backend(NAMES[0]), wyrm.use_backend(NAMES[-1])
    with second, first:
        pass
    assert taken() == "reference"


def test_the_choice_for_the_process_reaches_every_thread():
    for _ in range(100):
        wyrm.use_backend("reference")
    assert len(selection._process) <= 2  # choices that cannot become blocks any more are forgotten
    found = []
    thread = threading.Thread(target=lambda: found.append(taken()))
    thread.start()
    thread.join()
    assert found == ["reference"]


def test_tasks_have_blocks_and_modes_of_their_own():
    dropped = (wyrm.InputNode((1, 8), np.ones((1, 8))) * 1.0).dropout(0.5, seed=1)

    async def task(name, number, turns):
        with wyrm.use_backend(name), contextlib.nullcontext() if number else wyrm.evaluating():
            for _ in range(3):
                await asyncio.sleep(0)
                turns.append((number, taken(), is_evaluating()))

    async def main():
        turns = []
        await asyncio.gather(task("reference", 0, turns), task(NAMES[0], 1, turns))
        return turns

    turns = asyncio.run(main())
    assert [number for number, _, _ in turns] == [0, 1] * 3  # they took turns
    assert set(turns) == {(0, "reference", True), (1, NAMES[0], False)}
    assert (dropped.value == 0).any()
