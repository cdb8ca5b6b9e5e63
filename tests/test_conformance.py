"""The conformance suite: correct backends pass it, the faults of its selftest do not, and what it reports is what it found."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import SEED, VARIANTS
from wyrm_conformance import runner
from wyrm_conformance.__main__ import main
from wyrm_conformance.applying import apply
from wyrm_conformance.cases import CASES
from wyrm_conformance.check import CHECKS, LEVELS, REQUIRED, SECTIONS, Context, Failure, declares
from wyrm_conformance.faults import FAULTS, correct_backend
from wyrm_conformance.faults.chains import with_chains
from wyrm_conformance.guard import Guard, GuardError
from wyrm_conformance.results import levels_reached, missing, schema
from wyrm_conformance.runner import find_backend, run, run_one, select
from wyrm_conformance.selftest import run_correct, run_fault, run_selftest, unused
from wyrm_conformance.time_limit import time_limit

import wyrm
from wyrm.backend import Capabilities, Exemption
from wyrm.frontend.op import OPS
from wyrm.kernels import KERNELS
from wyrm.reference import ReferenceBackend

#: The variants that are not what their backend is without being asked for one.
OTHER_VARIANTS = [
    name
    for name, plugin in VARIANTS.items()
    if dict(plugin.backend.details()) != dict(wyrm.get_backend(name.split(":")[0]).details())
]


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_VARIANTS)
def test_every_variant_reaches_all_levels(name, registry):
    """Instruction sets and the like that this machine would not choose; `make conformance` runs what it chooses."""
    registry.plugins.append(VARIANTS[name])
    chosen = wyrm.get_backend(name)
    results = run(chosen, select(), SEED)
    assert [f"{r.check.name}: {r.failure}" for r in results if r.failure] == []
    assert levels_reached(results, chosen) == dict.fromkeys(LEVELS, True)
    assert all(result.compared for result in results)


@pytest.mark.slow
def test_every_fault_is_killed_and_every_check_kills():
    """The selftest: at least 60 faults, and a correct backend that passes.

    What the reference can be asked to do, `make conformance` asks it, which is made of the same steps.
    """
    reference, killed = wyrm.get_backend("reference").capabilities, {}
    asked = {check.name for check in select() if all(declares(reference, word) for word in check.requires)}
    for outcome in run_selftest(passed=asked):
        if outcome.fault:
            killed[outcome.fault] = outcome.failed
            assert outcome.failed == FAULTS[outcome.fault].checks, outcome
            mistakes = ("AttributeError", "IndexError", "KeyError", "NameError", "TypeError")
            assert not outcome.message.startswith(mistakes), f"a mistake of the fault's own: {outcome}"
        else:
            assert not outcome.failed, outcome
    assert len(killed) == len(FAULTS) >= 60
    assert unused(killed) == []


@pytest.mark.parametrize(
    "fault",
    ["exp that saturates at 80", "the derivative of neg by operand 0 is off by a thousandth", "a gradient is not cleared"],
)
def test_checks_that_the_whole_matrix_leaves_out_do_not_notice(fault):
    """What is at fault is seen to be used by the checks that are meant for it; those that do not use it pass."""
    names = ["kernels/add", "kernels/exp", "contract/liveness", "contract/statuses", "sparse/empty", "gradients/neg"]
    uses = {name: run_correct(name).parts for name in {*names, *FAULTS[fault].checks}}
    assert all(FAULTS[fault].parts & uses[name] for name in FAULTS[fault].checks)
    left_out = [name for name in names if not FAULTS[fault].parts & uses[name]]
    assert 2 < len(left_out) < len(names)
    assert run_fault(fault, left_out).failed == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kernels/fused", "kernels/lookup"])
def test_correct_chains_and_rows_where_they_stand(name):
    """The subject of the selftest declares neither; the faults in them are planted in one that does."""
    result = run_one(with_chains(), CHECKS[name], SEED)
    assert (result.outcome, result.failure) == ("passed", "")


def test_what_the_suite_covers():
    assert set(CASES) == set(OPS)
    assert {f"gradients/{name}" for name in OPS} <= set(CHECKS)
    brought = {name for name, kernel in KERNELS.items() if kernel.optional} | set(ReferenceBackend.kernels)
    assert {f"kernels/{name}" for name in brought} <= set(CHECKS)


def test_checks_say_what_they_are_for():
    assert set(REQUIRED) == set(LEVELS)
    assert not {"float64", "releases_gil"} & {word for words in REQUIRED.values() for word in words}
    for check in CHECKS.values():
        assert check.protects and check.section and check.at_least >= 1, check
        assert check.name.split("/")[0] in SECTIONS, check


def subject(capabilities=None, exemptions=None, **kernels):
    backend = correct_backend(**kernels) if capabilities is None else correct_backend(capabilities=capabilities, **kernels)
    backend.declaration = replace(backend.declaration, exemptions=exemptions or {})
    return backend


class TestDeclarations:
    def test_a_backend_that_declares_little_reaches_what_it_can(self):
        backend = subject(Capabilities(schedules=frozenset()))
        results = run(backend, [c for c in select() if c.requires or c.name == "contract/declaration"], SEED)
        assert [r.failure for r in results if r.failure] == []
        refused = {r.not_declared for r in results if r.outcome == "refused"}
        assert {"float64", "hogwild", "synchronized", "releases_gil", "row_dot", "softmax"} <= refused
        assert missing(backend, "parallel") == ["hogwild"]
        assert levels_reached(results, backend) == {"core": True, "parallel": False}

    def test_what_is_not_declared_must_be_refused(self, monkeypatch):
        backend = subject(Capabilities(schedules=frozenset()))
        monkeypatch.setattr("wyrm.training.schedules._require", lambda *_: None)
        assert not run_one(backend, CHECKS["parallel/hogwild"], SEED).passed

    def test_an_expected_failure_is_shown_and_no_pass(self):
        backend = subject(exemptions={"kernels/exp": Exemption("rough")}, exp=lambda a: np.exp(a) * 1.01)
        (result,) = run(backend, select(patterns=["kernels/exp"]), SEED)
        assert (result.outcome, result.passed, result.reason) == ("expected failure", False, "rough")
        assert levels_reached([result]) == {"core": False}

    def test_an_expected_failure_that_passes_is_an_error(self):
        backend = subject(exemptions={"kernels/exp": Exemption("rough")})
        (result,) = run(backend, select(patterns=["kernels/exp"]), SEED)
        assert result.outcome == "failed"
        assert "declared to fail (rough), but it passed" in result.failure

    def test_looser_bounds(self):
        rough = {"exp": lambda a: np.nextafter(np.nextafter(np.exp(a), a.dtype.type(9e9)), a.dtype.type(9e9)) * (1 + 4e-7)}
        exemptions = {"kernels/exp": Exemption("a table of few entries", factor=1e10)}
        (result,) = run(subject(Capabilities(), exemptions, **rough), select(patterns=["kernels/exp"]), SEED)
        assert (result.outcome, result.factor) == ("passed", 1e10), result.failure
        (result,) = run(subject(Capabilities(), exemptions), select(patterns=["kernels/exp"]), SEED)
        assert "but the usual ones were kept" in result.failure

    def test_an_exemption_from_no_check(self):
        with pytest.raises(wyrm.BackendError, match="checks that there are not: .'kernels/exq'"):
            run(subject(exemptions={"kernels/exq": Exemption("typo")}), [], SEED)


class TestNoVacuousPass:
    def test_the_reference_raises_while_a_check_runs(self):
        with Guard(subject()) as guard:
            node = wyrm.ParameterNode(2.0).square()
            with pytest.raises(GuardError, match="'multiply'"):
                node.forward(backend="reference")
            with guard.lifted():
                wyrm.ParameterNode(3.0).square().forward(backend="reference")
        wyrm.ParameterNode(2.0).square().forward(backend="reference")

    def test_a_backend_that_hands_its_work_over_fails(self):
        class Lazy(ReferenceBackend):
            kernels = {**ReferenceBackend.kernels}

            def compile(self, program):
                return wyrm.get_backend("reference").compile(program)

        backend = Lazy()
        backend.declaration = replace(wyrm.get_backend("reference").declaration, name="lazy")
        result = run_one(backend, CHECKS["gradients/add"], SEED)
        assert "GuardError" in result.failure

    def test_memory_begins_as_nan(self):
        with Guard(subject()):
            from wyrm.memory import GradientBuffer

            buffer = GradientBuffer((3, 2), "float32")
            buffer.reserve(4)
            assert np.isnan(buffer.row_values).all()

    def test_a_check_that_compares_too_little_fails(self):
        nothing = CHECKS["sparse/rows"]._replace(function=lambda context: None)
        assert run_one(subject(), nothing, 1).failure == "the check compared nothing"
        little = nothing._replace(function=lambda context: context.require("x", True), at_least=2)
        assert "compared 1 numbers, not the 2" in run_one(subject(), little, 1).failure

    def test_writing_beside_the_result_is_seen(self):
        def careless(a):
            if a.base is not None and a.shape[1] > 1:
                np.lib.stride_tricks.as_strided(a, (1, a.shape[1] + 1), a.strides)[0, -1] = 7
            return -a

        context = Context(subject(negate=careless), 1, "x")
        with pytest.raises(Failure, match="wrote beside its result"):
            apply(context, "negate", [np.ones((2, 3))], (2, 3), "float32")


class TestComparisons:
    @pytest.fixture
    def context(self):
        return Context(wyrm.get_backend("reference"), 1, "x")

    def test_equal(self, context):
        context.compare("x", np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf]), 0)
        context.compare("x", np.array([1000.0]), np.array([1000.5]), 1e-3)
        context.identical("x", np.array([np.nan, -0.0]), np.array([np.nan, -0.0]))
        context.within_ulps("x", np.array([1, np.inf], np.float32), np.array([1 + 1e-7, np.inf]), 2)
        assert context.compared == 8

    @pytest.mark.parametrize(
        ("actual", "expected"),
        [([np.nan], [0.0]), ([0.0], [np.nan]), ([np.inf], [1.0]), ([1.0], [np.inf]), ([np.inf], [-np.inf]), ([1.0], [1.1])],
    )
    def test_different(self, context, actual, expected):
        with pytest.raises(Failure, match="element"):
            context.compare("x", np.array(actual), np.array(expected), 1e-3)
        with pytest.raises(Failure, match="element"):
            context.within_ulps("x", np.array(actual), np.array(expected), 1000)

    def test_shapes_signs_and_ulps(self, context):
        with pytest.raises(Failure, match="shape"):
            context.compare("x", np.zeros((1, 2)), np.zeros((2, 1)), 1)
        with pytest.raises(Failure, match="changed from 0.0 to -0.0"):
            context.identical("x", np.array([-0.0]), np.array([0.0]))
        with pytest.raises(Failure, match="float64"):
            context.identical("x", np.zeros(1), np.zeros(1, np.float32))
        with pytest.raises(Failure, match="inf ulp"):
            context.within_ulps("x", np.array([-0.0]), np.array([0.0]), 1)
        with pytest.raises(Failure, match="4 ulp is more than 2.01"):
            context.within_ulps("x", np.array([1 + 2**-21], np.float32), np.array([1.0]), 2)

    def test_a_failure_shows_the_case(self, context):
        context.case("out = a", a=np.array([[1.0, 2.0]]))
        with pytest.raises(Failure) as failure:
            context.compare("x", np.ones(1), np.zeros(1), 0)
        details = failure.value.details
        assert (details["formula"], details["inputs"]) == ("out = a", {"a": [[1.0, 2.0]]})
        assert (details["actual"], details["expected"], details["error"]) == (1, 0, 1)


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
