"""Which backend is taken, and in which order the ways of saying so count."""

import os
import subprocess
import sys

import pytest

import wyrm

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


@pytest.mark.parametrize("name", NAMES)
def test_the_variable_changes_the_backend_of_an_unchanged_script(name):
    script = "import wyrm; y = wyrm.InputNode((1, 1), 2.0).square(); y.forward(); print(wyrm.get_backend().name, y.value)"
    environment = {**os.environ, "WYRM_BACKEND": name}
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert process.stdout == f"{name} [[4.]]\n"
