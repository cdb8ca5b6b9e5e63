"""The conformance suite as people run it: by its command and by pytest, on backends that crash, hang and lack levels."""

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from conftest import SEED
from wyrm_conformance import runner
from wyrm_conformance.__main__ import main
from wyrm_conformance.check import CHECKS
from wyrm_conformance.faults import correct_backend
from wyrm_conformance.results import schema
from wyrm_conformance.runner import find_backend, run_one
from wyrm_conformance.time_limit import time_limit

from wyrm.reference import ReferenceBackend


def write_backend(folder, **kernels):
    """A module with a faulty backend, for the command line."""
    sys.modules.pop("someones", None)
    changes = ", ".join(f"'{name}': {source}" for name, source in kernels.items())
    (folder / "someones.py").write_text(
        "import numpy as np\nfrom wyrm.backend import Capabilities, Declaration\nfrom wyrm.reference import ReferenceBackend\n"
        f"class Someones(ReferenceBackend):\n    kernels = {{**ReferenceBackend.kernels, {changes}}}\n"
        "variants = {'plain': {'SOMEONES': '1'}, 'absent': {'SOMEONES': 'absent'}}\n"
        "declaration = Declaration(name='someones', load=Someones, contract=(2, 2), variants=variants)\n"
    )


class TestCommand:
    def test_failures_say_how_to_repeat_them(self, capsys, tmp_path, monkeypatch):
        write_backend(tmp_path, negate="lambda a: a")
        monkeypatch.syspath_prepend(tmp_path)
        report = tmp_path / "report.json"
        command = ["--backend", "someones:declaration", "--select", "kernels/neg*", "--seed", "5"]
        assert main([*command, "--report", str(report)]) == 1
        output = capsys.readouterr().out
        assert "FAILED  kernels/negate: negate of (1, 1) in float32: element (0, 0) is" in output
        assert "formula: out = -a" in output
        assert "\n        a = [[" in output
        assert '--backend someones:declaration --select "kernels/negate" --seed 5' in output
        assert "level core: NOT reached, 0 of 1 checks passed" in output
        assert main(["--backend", "someones:declaration", "--select", "kernels/negate", "--seed", "5"]) == 1
        again = capsys.readouterr().out
        line = next(line for line in output.splitlines() if "FAILED" in line)
        assert line in again
        written = json.loads(report.read_text())
        jsonschema.validate(written, schema())
        (check,) = written["runs"][0]["checks"]
        assert check["details"]["formula"] == "out = -a"

    def test_levels(self, capsys):
        assert main(["--backend", "reference", "--level", "core", "--select", "*/a*", "--seed", "1"]) == 0
        output = capsys.readouterr().out
        assert "level core: reached" in output
        assert "level sparse" not in output

    def test_reports_and_their_comparison(self, capsys, tmp_path):
        paths = [str(tmp_path / f"{n}.json") for n in range(2)]
        assert main(["--backend", "reference", "--select", "kernels/a*", "--seed", "1", "--report", paths[0]]) == 0
        assert main(["--backend", "reference", "--select", "parallel/synch*", "--seed", "1", "--report", paths[1]]) == 0
        for path in paths:
            jsonschema.validate(json.loads(Path(path).read_text()), schema())
        capsys.readouterr()
        assert main(["compare", *paths]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "|  | reference | reference |"
        assert lines[1] == "|---|---|---|"
        assert "| **level core** | reached | - |" in lines
        assert any(line.startswith("| kernels/add | 0") and line.endswith("| - |") for line in lines)
        assert all(line.count("|") == 4 for line in lines[: lines.index("")])
        (tmp_path / "x.json").write_text("{}")
        assert main(["compare", str(tmp_path / "x.json")]) == 2
        assert "is no report" in capsys.readouterr().err

    def test_a_report_that_is_not_one(self, tmp_path):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": 2}, schema())

    @pytest.mark.slow
    def test_variants_run_in_processes_of_their_own(self, tmp_path, monkeypatch):
        write_backend(tmp_path)
        report = tmp_path / "report.json"
        command = [sys.executable, "-m", "wyrm_conformance", "--backend", "someones:declaration", "--variant", "all"]
        command += ["--select", "kernels/add", "--report", str(report)]
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stdout + process.stderr
        assert "variant plain: passed" in process.stdout
        written = json.loads(report.read_text())
        jsonschema.validate(written, schema())
        assert [run["variant"] for run in written["runs"]] == ["plain", "absent"]
        assert len({run["seed"] for run in written["runs"]}) == 1

    def test_bad_arguments(self, capsys):
        assert main(["--backend", "nope"]) == 2
        assert "there is no backend 'nope'" in capsys.readouterr().err
        assert main(["--backend", "reference", "--select", "nothing*"]) == 2
        assert "no check matches nothing*" in capsys.readouterr().err
        assert main(["--backend", "reference", "--variant", "odd"]) == 2
        assert "declares no variant 'odd'; it declares none" in capsys.readouterr().err
        assert main(["--backend", "no_such_module:backend"]) == 2
        assert main(["--backend", "wyrm:fit"]) == 2
        with pytest.raises(SystemExit):
            main(["--backend", "reference", "--level", "highest"])

    def test_listing(self, capsys):
        assert main(["--backend", "reference", "--list", "--select", "kernels/add"]) == 0
        assert capsys.readouterr().out.startswith("kernels/add (core; wyrm/kernels.py: KERNELS): add computes what")

    def test_a_backend_by_module_and_object(self, tmp_path, monkeypatch):
        write_backend(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        assert find_backend("someones:declaration").name == "someones"


class TestCrashes:
    """A backend that ends its process, or is stuck in native code, fails one check; the others have their results."""

    @pytest.mark.parametrize(
        ("crash", "ending"),
        [
            ("os.kill(os.getpid(), 11)", "the process was ended by SIGSEGV"),
            ("os.abort()", "the process was ended by SIGABRT"),
            ("os._exit(7)", "the process exited with status 7"),
            ("sys.exit(5)", "the process exited with status 5"),
            ("stuck()", "the process was stuck in native code, and was ended after 5.2 s"),
        ],
    )
    def test_the_suite_goes_on(self, tmp_path, monkeypatch, capsys, crash, ending):
        write_backend(tmp_path, log=f"lambda a: {crash}")
        source = tmp_path / "someones.py"
        stuck = (
            "def stuck():\n    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGPROF})\n    time.sleep(60)\n"
        )
        source.write_text(f"import os, signal, sys, time\n{stuck}{source.read_text()}")
        monkeypatch.syspath_prepend(tmp_path)
        if crash == "stuck()":  # a busy machine may take seconds for what takes a tenth of one
            monkeypatch.setattr("wyrm_conformance.time_limit.SECONDS", 0.5)
            monkeypatch.setattr("wyrm_conformance.worker.PATIENCE", 0.2)
        report = tmp_path / "report.json"
        options = [*(f"--select=kernels/{name}" for name in ("negate", "log", "sqrt")), "--seed", "1", "--report", str(report)]
        assert main(["--backend", "someones:declaration", *options]) == 1
        output = capsys.readouterr().out
        assert f"FAILED  kernels/log: {ending}" in output
        assert "level core: NOT reached, 2 of 3 checks passed" in output
        assert '--select "kernels/log" --seed 1' in output
        outcomes = {check["name"]: check["outcome"] for check in json.loads(report.read_text())["runs"][0]["checks"]}
        assert outcomes == {"kernels/negate": "passed", "kernels/log": "failed", "kernels/sqrt": "passed"}

    def test_a_crash_that_is_declared(self, tmp_path, monkeypatch, capsys):
        write_backend(tmp_path, log="lambda a: os.abort()")
        source = tmp_path / "someones.py"
        declared = source.read_text().replace(
            "variants=variants", "variants=variants, exemptions={'kernels/log': Exemption('aborts')}"
        )
        source.write_text(f"import os\nfrom wyrm.backend import Exemption\n{declared}")
        monkeypatch.syspath_prepend(tmp_path)
        assert main(["--backend", "someones:declaration", "--select", "kernels/log"]) == 0
        assert "expected failure kernels/log: aborts" in capsys.readouterr().out

    def test_a_backend_that_crashes_when_it_is_loaded(self, tmp_path, monkeypatch, capsys):
        write_backend(tmp_path)
        source = tmp_path / "someones.py"
        source.write_text(f"import os\n{source.read_text()}os.abort()\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert main(["--backend", "someones:declaration"]) == 2
        expected = "wyrm_conformance: backend 'someones:declaration' cannot be loaded: its process was ended by SIGABRT"
        assert expected in capsys.readouterr().err

    def test_a_declaration_that_is_not_valid(self, tmp_path, monkeypatch, capsys):
        write_backend(tmp_path)
        source = tmp_path / "someones.py"
        source.write_text(source.read_text().replace("contract=(2, 2)", "contract=(2, 1)"))
        monkeypatch.syspath_prepend(tmp_path)
        assert main(["--backend", "someones:declaration"]) == 2
        assert "the declaration someones:declaration is not valid: expected contract" in capsys.readouterr().err


def test_levels_that_are_not_reached_say_what_they_lack(capsys, tmp_path, monkeypatch):
    write_backend(tmp_path, negate="lambda a: a")
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        main(["--backend", "someones:declaration", *(f"--select={name}" for name in ("kernels/negate", "sparse/empty"))]) == 1
    )
    lines = capsys.readouterr().out.splitlines()
    assert "level core: NOT reached, 0 of 1 checks passed" in lines
    assert "level sparse: NOT reached, 1 of 1 checks passed; it needs level core, which is not reached" in lines


@pytest.mark.slow
def test_as_tests_of_pytest(tmp_path):
    """The same checks, collected from the installed package, in an empty folder."""
    command = [sys.executable, "-m", "pytest", "--pyargs", "wyrm_conformance", "-p", "no:cacheprovider", "-q"]
    options = ["--wyrm-seed", "3", "-k", "kernels/negate or kernels/add"]
    process = subprocess.run(
        [*command, "--wyrm-backend", "reference", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stdout
    assert "2 passed" in process.stdout
    write_backend(tmp_path, negate="lambda a: a")
    process = subprocess.run(
        [*command, "--wyrm-backend", "someones:declaration", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 failed, 1 passed" in process.stdout
    assert '--backend someones:declaration --select "kernels/negate" --seed 3' in process.stdout


@pytest.mark.parametrize(("waits", "limit"), [(True, "0.5 s"), (False, "0.05 s of the processor")])
def test_a_check_that_does_not_end(monkeypatch, waits, limit):
    """It fails, and the suite goes on, whether it waits or works; signals are as before."""

    def endless(context):
        context.compared = 1
        while True:
            if waits:
                time.sleep(0.001)

    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGPROF)]

    def timers():
        return [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_PROF)]

    before = handlers()
    if not waits:  # on a busy machine a twentieth of a second of the processor may take long
        monkeypatch.setattr("wyrm_conformance.time_limit.WAITING", 1000)
    monkeypatch.setattr(runner, "time_limit", partial(time_limit, 0.05))
    result = run_one(correct_backend(ReferenceBackend), CHECKS["contract/float64"]._replace(function=endless), SEED)
    assert not result.passed and f"not done after {limit}" in result.failure
    assert handlers() == before and timers() == [(0, 0), (0, 0)]
    with time_limit(60):
        assert timers() != [(0, 0), (0, 0)]
    assert handlers() == before and timers() == [(0, 0), (0, 0)]


def test_equivalent_mutants_are_of_lines_that_there_are():
    """What is left out as equivalent was looked at; where the line is another one by now, it has to be looked at anew."""
    here = Path(__file__).parent
    backends = here.parent / "backends"
    sources = {path.name: path.read_text() for path in [*backends.rglob("kernels/*.[hp]*"), *backends.rglob("wyrm_numba/*.py")]}
    for entry in json.loads((here / "equivalent_mutants.json").read_text()):
        lines = [line.strip() for line in sources[entry["file"]].splitlines()]
        assert entry["before"] in lines, entry
        assert entry["after"] != entry["before"]
        assert entry["why"]
