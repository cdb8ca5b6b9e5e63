"""The tests of a backend: what is its own, and the conformance suite."""

import subprocess
import sys

import numpy as np
import wyrm_extended

import wyrm


def test_it_is_found_and_is_what_it_says():
    status = next(status for status in wyrm.backends() if status.name == "extended")
    assert (status.state, status.version) != ("broken", "")
    assert status.version == wyrm_extended.__version__


def test_results_are_rounded_once():
    """The sum of 1 and many small numbers, which float32 would lose one by one."""
    x = wyrm.InputNode((1, 1001), np.array([[1.0] + [1e-8] * 1000]))
    total = x.scalar_sum()
    total.forward(backend="extended")
    assert total.value[0, 0] == np.float32(1 + 1e-5)


def test_conformance():
    command = [sys.executable, "-m", "wyrm_conformance", "--backend", "extended", "--seed", "1"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "level parallel: reached" in process.stdout
