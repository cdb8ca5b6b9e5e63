"""Packages: the example backend is found like anybody's, and a backend that is taken away is not missed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wyrm

ROOT = Path(__file__).parent.parent


def run(*arguments, path=None, **environment):
    environment = {**os.environ, **environment}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), str(ROOT / "examples")])
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example backend, installed by pip into a folder of its own."""
    pytest.importorskip("hatchling", reason="building the example needs hatchling")
    target = tmp_path_factory.mktemp("site")
    source = ROOT / "examples" / "extended_backend"
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(target), str(source)]
    process = run(*command)
    assert process.returncode == 0, process.stderr
    return target


@pytest.mark.slow
def test_the_example_is_found_by_its_entry_point(installed):
    process = run("-m", "wyrm", "backends", "--check", path=installed)
    assert process.returncode == 0, process.stdout
    line = next(line for line in process.stdout.splitlines() if line.startswith("extended "))
    assert "working" in line
    assert "wyrm-extended 0.1.0" in line


@pytest.mark.slow
def test_the_example_trains_the_regression(installed):
    process = run("-m", "linear_regression", "extended", path=installed)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("y = 3.00")


@pytest.mark.slow
def test_the_example_passes_conformance(installed):
    """All that is asked of kernels, which are all that it brings, and of the rest a sample: that is Wyrm's, for any kernels."""
    sample = ["contract/*s", "kernels/*", "gradients/s*", "sparse/*", "losses/b*", "draws/again", "optimizers/adam"]
    sample += ["training/equals steps", "training/rows", "parallel/hogwild"]
    options = [f"--select={pattern}" for pattern in sample]
    process = run("-m", "wyrm_conformance", "--backend", "extended", "--seed", "1", *options, path=installed)
    assert process.returncode == 0, process.stdout
    for level in ("core", "sparse", "training", "parallel"):
        assert f"level {level}: reached" in process.stdout


def test_the_example_is_about_a_hundred_lines():
    source = (ROOT / "examples" / "extended_backend" / "wyrm_extended" / "__init__.py").read_text()
    assert len(source.splitlines()) <= 110


@pytest.mark.slow
@pytest.mark.parametrize("name", [status.name for status in wyrm.backends() if status.name != "reference"])
def test_a_script_runs_without_a_backend(name):
    """With its entry point gone, a backend is not listed, and the same script runs on another."""
    code = (
        "from wyrm import plugins\n"
        "found, unreadable = plugins.installed_entry_points('wyrm')\n"
        f"left = [entry for entry in found if entry.name != {name!r}]\n"
        "plugins.installed_entry_points = lambda group: (left, unreadable)\n"
        "import wyrm\n"
        "x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(0.0)\n"
        "wyrm.fit((x * w - x).square(), {x: [1.0] * 50}, wyrm.optim.SGD(0.1, [w]))\n"
        "print([b.name for b in wyrm.backends()], abs(w.value[0, 0] - 1) < 0.01)\n"
    )
    process = run("-c", code)
    names = [status.name for status in wyrm.backends() if status.name != name]
    assert process.stdout == f"{names} True\n", process.stderr


def test_the_versions_agree():
    import wyrm_conformance

    assert wyrm_conformance.__version__ == wyrm.__version__
    for status in wyrm.backends():
        assert status.version == wyrm.__version__
    for file in ROOT.glob("**/pyproject.toml"):
        if any(part.startswith(".") or part == "out" for part in file.relative_to(ROOT).parts):
            continue  # installed here, or built
        if "version = " in file.read_text() and "[project]" in file.read_text() and "extended" not in str(file):
            assert f'version = "{wyrm.__version__}"' in file.read_text() or 'dynamic = ["version"]' in file.read_text()
