"""The public API is typed: a user's script over all of it passes strict checking, and wrong ones do not."""

import subprocess
import sys
from pathlib import Path

import pytest
import typed_user_script

SCRIPT = Path(typed_user_script.__file__)


def mypy(path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--no-error-summary", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=path.parent)


def test_a_users_script_runs():
    typed_user_script.main()


@pytest.mark.slow
def test_a_users_script_passes_strict_checking(tmp_path):
    process = mypy(SCRIPT)
    assert process.returncode == 0, process.stdout
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import wyrm\nnode: int = wyrm.InputNode((1, 1)).square()\nwyrm.InputNode((1, 1)).no_such_op()\n")
    output = mypy(wrong).stdout
    assert "wrong.py:2: error" in output
    assert "wrong.py:3: error" in output
