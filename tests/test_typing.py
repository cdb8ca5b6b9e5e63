"""The public API is typed: a user's script over all of it passes strict checking, and wrong ones do not."""

import subprocess
import sys
from pathlib import Path

import pytest
import typed_user_script

SCRIPT = Path(typed_user_script.__file__)


def test_a_users_script_runs():
    typed_user_script.main()


@pytest.mark.slow
def test_a_users_script_passes_strict_checking(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import wyrm\nnode: int = wyrm.InputNode((1, 1)).square()\nwyrm.InputNode((1, 1)).no_such_op()\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--no-error-summary", str(SCRIPT), str(wrong)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert process.stderr == ""
    errors = [line for line in process.stdout.splitlines() if ": error: " in line]
    assert [error.partition("wrong.py:")[2][0] for error in errors] == ["2", "3"], process.stdout
