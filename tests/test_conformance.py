"""The conformance suite: correct backends pass it, the faults of its selftest do not, and what it reports is what it found."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import SEED, VARIANTS
from wyrm_conformance.applying import apply
from wyrm_conformance.cases import CASES
from wyrm_conformance.check import CHECKS, LEVELS, REQUIRED, SECTIONS, Context, Failure, declares
from wyrm_conformance.faults import FAULTS, correct_backend
from wyrm_conformance.faults.chains import with_chains
from wyrm_conformance.guard import Guard, GuardError
from wyrm_conformance.results import levels_reached, missing
from wyrm_conformance.runner import run, run_one, select
from wyrm_conformance.selftest import run_correct, run_fault, run_selftest, unused

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
