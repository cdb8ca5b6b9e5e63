"""The guide to writing a backend, followed literally: its files, and the commands that end its steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "writing-a-backend.md").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package of the guide, installed by pip into a folder of its own."""
    pytest.importorskip("hatchling", reason="building the package needs hatchling")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL).group(1))
    (source / "wyrm_mine").mkdir()
    (source / "wyrm_mine" / "__init__.py").write_text("")
    for name, code in re.findall(r"```python\n# (wyrm_mine/\w+\.py)\n(.*?)```", GUIDE, re.DOTALL):
        (source / name).write_text(code)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return target


def run(command, site, folder, *options):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    arguments = [sys.executable, *command.split()[1:], *options]
    process = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.slow
def test_the_steps(installed, tmp_path):
    """Each command of the guide, in an empty folder; of the checks a sample of every family."""
    commands = re.findall(r"^    (python -m .*)$", GUIDE.split("## What else")[0], re.MULTILINE)
    assert run("python -m wyrm try mine", installed, tmp_path) == (0, "mine: one step of training gave what it should\n")
    assert commands[0] == "python -m wyrm backends"
    assert [command.partition("--level ")[2] for command in commands[1:]] == ["core", "sparse", "training", ""]
    status, output = run(commands[0], installed, tmp_path)
    assert status == 0
    assert re.search(r"^mine +0\.1\.0 +declared", output, re.MULTILINE)
    sample = [
        "contract/declaration",
        "kernels/*",
        "gradients/dot",
        "sparse/*",
        "optimizers/adam",
        "training/order",
        "parallel/*",
    ]
    status, output = run(commands[-1], installed, tmp_path, *(f"--select={pattern}" for pattern in sample))
    assert status == 0, output
    for level in ("core", "sparse", "training", "parallel"):
        assert f"level {level}: reached" in output


def test_what_else_may_be_declared():
    """The examples of capabilities and exemptions name what there is."""
    from wyrm_conformance.runner import select

    from wyrm.declared import problem
    from wyrm.hookspecs import hookimpl

    namespace = {"hookimpl": hookimpl, "load": dict}
    exec(re.findall(r"```python\n(from wyrm.backend import Cap.*?)```", GUIDE, re.DOTALL)[0], namespace)
    declaration = namespace["wyrm_backend"]()
    assert problem(declaration) == ""
    assert set(declaration.exemptions) <= {check.name for check in select()}
    assert declaration.capabilities.kernels


def test_what_is_said_of_bounds():
    """The numbers in units in the last place."""
    from wyrm_conformance.formulas import BOUNDS

    said = re.search(r"0\.5 for what is rounded once, 2 for (.*?), 3 for (.*?), 4 for (.*?);", GUIDE, re.DOTALL).groups()
    for bound, names in zip((2.0, 3.0, 4.0), said, strict=True):
        assert {name for name, value in BOUNDS.items() if value == bound} == set(re.findall(r"`(\w+)`", names))
    assert {value for value in BOUNDS.values() if value < 2} == {0.0, 0.5}
