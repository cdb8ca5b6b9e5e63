"""The tests of a backend: the conformance suite."""

import subprocess
import sys


def test_conformance():
    command = [sys.executable, "-m", "wyrm_conformance", "--backend", "extended"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
