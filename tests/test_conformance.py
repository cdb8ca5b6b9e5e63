"""The conformance suite: it passes on correct backends, and planted faults make it fail, each in the right check."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import SEED
from wyrm_conformance.__main__ import main
from wyrm_conformance.cases import CASES
from wyrm_conformance.check import CHECKS, Context, Failure
from wyrm_conformance.runner import find_backend, levels_reached, run, select

import wyrm
from wyrm import philox
from wyrm.backend import Capabilities
from wyrm.frontend import structure
from wyrm.frontend.lowering import lower
from wyrm.frontend.op import OPS
from wyrm.kernel_steps import Steps
from wyrm.memory import GradientBuffer, Source
from wyrm.reference import ReferenceBackend
from wyrm.runs import JoinedRunner, Team
from wyrm.training.conflict_free import ConflictFree


@pytest.mark.variants
def test_correct_backends_reach_all_levels(backend):
    results = run(wyrm.get_backend(backend), select(), SEED)
    assert [f"{r.check.name}: {r.failure}" for r in results if r.failure] == []
    assert levels_reached(results) == dict.fromkeys(("core", "sparse", "training", "parallel"), True)
    assert all(result.compared for result in results)


def test_every_op_has_a_case_and_a_check():
    assert set(CASES) == set(OPS)
    assert {f"gradients/{name}" for name in OPS} <= set(CHECKS)


def failures(backend=None, *patterns):
    """The names of the checks that fail."""
    chosen = wyrm.get_backend("reference") if backend is None else backend
    return [result.check.name for result in run(chosen, select(patterns=patterns), SEED) if not result.passed]


@contextmanager
def planted(name, **changes):
    """An op with something changed, and no memory of what it was."""

    def forget():
        structure.STORE.clear()
        lower._CACHE.clear()

    op = OPS[name]
    kept = {attribute: getattr(op, attribute) for attribute in changes}
    try:
        for attribute, value in changes.items():
            object.__setattr__(op, attribute, value)
        forget()
        yield
    finally:
        for attribute, value in kept.items():
            object.__setattr__(op, attribute, value)
        forget()


DERIVATIVES = [(name, n) for name, op in OPS.items() for n, vjp in enumerate(op.vjps) if vjp is not None]


@pytest.mark.parametrize(("name", "operand"), DERIVATIVES)
def test_a_derivative_that_is_off_by_a_thousandth(name, operand):
    """In any op, for any operand: that op's check fails."""
    op = OPS[name]

    def wrong(vjp, k, g, y, *operands, **attributes):
        scaled = k.call("multiply", k.literal(1.001), g)
        return vjp(k, scaled, y, *operands, **attributes)

    vjps = [partial(wrong, vjp) if n == operand else vjp for n, vjp in enumerate(op.vjps)]
    with planted(name, vjps=tuple(vjps)):
        assert failures(None, f"gradients/{name}") == [f"gradients/{name}"]


@pytest.mark.parametrize(("name", "operand"), DERIVATIVES)
def test_a_derivative_that_is_missing(name, operand):
    op = OPS[name]
    with planted(name, vjps=tuple(None if n == operand else vjp for n, vjp in enumerate(op.vjps))):
        assert failures(None, f"gradients/{name}") == [f"gradients/{name}"]


def faulty(**kernels):
    """The reference with other kernels."""
    backend = type("Faulty", (ReferenceBackend,), {"kernels": {**ReferenceBackend.kernels, **kernels}})()
    backend.declaration = replace(wyrm.get_backend("reference").declaration, name="faulty")
    return backend


def drop_tail(kernel):
    """A kernel that leaves out what is beyond the last whole vector of eight."""

    def wrong(*operands, **attributes):
        result = np.array(kernel(*operands, **attributes))
        columns = result.shape[1]
        if columns > 8:
            result[:, columns - columns % 8 :] = 0
        return result

    return wrong


KERNEL_FAULTS = {
    "sigmoid that saturates at 10": ({"sigmoid": lambda a: 1 / (1 + np.exp(-np.clip(a, -1.9, 1.9)))}, "gradients/sigmoid"),
    "sum that leaves out the last row": (
        {"sum": lambda a, axis: (a[:-1] if axis is None and len(a) > 1 else a).sum(axis=axis, keepdims=True)},
        "gradients/sum",
    ),
    "add without tail": ({"add": drop_tail(np.add)}, "gradients/add"),
    "multiply without tail": ({"multiply": drop_tail(np.multiply)}, "gradients/multiply"),
    "matmul that forgets to transpose": (
        {"matmul": lambda a, b, transpose_a=False, transpose_b=False: (a.T if transpose_a else a) @ b.reshape(-1, b.shape[0])
         if transpose_b else (a.T if transpose_a else a) @ b},
        "gradients/dot",
    ),
    "subtract the other way round": ({"subtract": lambda a, b: b - a}, "gradients/subtract"),
    "negate that drops the sign of zero's neighbours": ({"negate": lambda a: -np.round(a, 3)}, "gradients/neg"),
    "NaN for large products": (
        {"multiply": lambda a, b: np.where(np.abs(a * b) > 3, np.nan, a * b)},
        "gradients/multiply",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", KERNEL_FAULTS)
def test_faulty_kernels(fault):
    kernels, name = KERNEL_FAULTS[fault]
    assert name in failures(faulty(**kernels), name)


def test_a_dropped_row(monkeypatch):
    """The last row of every look-up's gradient is lost."""
    add_rows = GradientBuffer.add_rows
    monkeypatch.setattr(GradientBuffer, "add_rows", lambda self, rows, values: add_rows(self, rows[:-1], values[:-1]))
    assert {"sparse/rows", "sparse/duplicates", "gradients/index"} <= set(failures(None, "sparse/*", "gradients/index"))


def test_duplicates_that_overwrite_each_other(monkeypatch):
    def overwrite(self):
        kept = dict(zip(self.row_numbers[: self.count].tolist(), self.row_values[: self.count], strict=True))
        rows = sorted(kept)
        values = np.array([kept[r] for r in rows]).reshape(len(rows), self.shape[1])
        return np.array(rows, np.int64), values.astype(self.dtype)

    monkeypatch.setattr(GradientBuffer, "merged_rows", overwrite)
    assert "sparse/duplicates" in failures(None, "sparse/*")


def test_a_dense_part_that_is_lost(monkeypatch):
    monkeypatch.setattr(GradientBuffer, "touched", property(lambda self: False))
    assert "sparse/mixed with dense" in failures(None, "sparse/*")


def test_an_update_of_every_row(monkeypatch):
    """An optimizer whose l2 decays rows that were not touched."""
    update = Steps._update_gradient

    def everywhere(self, instruction):
        run, gradient = update(self, instruction), self.buffer(instruction.operands[0])

        def wrong():
            if gradient.count:
                gradient.require_dense()
                gradient.header[0] = 1
            run()

        return wrong

    monkeypatch.setattr(Steps, "_update_gradient", everywhere)
    assert {"sparse/untouched rows", "sparse/memory"} <= set(failures(None, "sparse/*"))


DRAWING_FAULTS = {
    "excluded numbers that are drawn": lambda key, number, rows, table, excluded: philox.draw(key, number, rows, table),
    "frequencies that are ignored": lambda key, number, rows, table, excluded: philox.draw(key, number, rows, None, excluded),
    "draws that do not change from step to step": lambda key, *others: philox.draw((key[0], key[1], 0), *others),
    "samples that draw the same": lambda key, *others: philox.draw((key[0], 0, key[2]), *others),
    "odd numbers that are not drawn": lambda key, number, rows, table, excluded: (
        philox.draw(key, number, rows, table, excluded) & ~1
    ),
}


@pytest.mark.parametrize("fault", DRAWING_FAULTS)
def test_numbers_that_are_drawn_otherwise(monkeypatch, fault):
    monkeypatch.setattr("wyrm.kernel_steps.draw", DRAWING_FAULTS[fault])
    assert "draws/numbers" in failures(None, "draws/numbers")


@pytest.mark.parametrize("tries", [lambda tries: 1, lambda tries: tries + 1, lambda tries: max(1, tries - 1)])
def test_draws_that_end_too_soon_or_too_late(monkeypatch, tries):
    step = Steps._draw

    def wrong(self, instruction):
        attributes = dict(instruction.attributes)
        return step(self, replace(instruction, attributes=tuple({**attributes, "tries": tries(attributes["tries"])}.items())))

    monkeypatch.setattr(Steps, "_draw", wrong)
    assert "draws/again" in failures(None, "draws/again")


def test_a_body_that_is_not_run_again(monkeypatch):
    step = Steps._draw

    def once(self, instruction):
        body = [self.step(i) for i in instruction.body]
        run = step(self, replace(instruction, body=()))

        def wrong():
            run()
            for i in body:
                i()

        return wrong

    monkeypatch.setattr(Steps, "_draw", once)
    assert {"draws/again", "draws/runner"} <= set(failures(None, "draws/*"))


def test_an_upstream_gradient_that_is_ignored(monkeypatch):
    from wyrm.kernel_backend import _KernelPass

    backward = _KernelPass.backward
    monkeypatch.setattr(_KernelPass, "backward", lambda self, weight: backward(self, 1.0))
    assert failures(None, "gradients/add", "gradients/square") == ["gradients/add", "gradients/square"]


def test_a_gradient_that_is_not_cleared(monkeypatch):
    monkeypatch.setattr(GradientBuffer, "clear", lambda self: None)
    assert "gradients/accumulation" in failures(None, "gradients/a*")


def test_shuffling_that_ignores_the_seed(monkeypatch):
    generator = np.random.default_rng
    monkeypatch.setattr("wyrm.training.order.np.random.default_rng", lambda seed=None: generator())
    assert failures(None, "training/order") == ["training/order"]


def test_sequences_that_are_read_from_their_beginning_alone(monkeypatch):
    monkeypatch.setattr(
        Source, "rows", lambda self, examples: self.array[examples if self.starts is None else self.starts[examples]]
    )
    assert failures(None, "training/*") == ["training/structures", "training/rows", "training/ragged"]


def test_runs_of_the_first_example_alone(monkeypatch):
    rows = Source.rows
    monkeypatch.setattr(Source, "rows", lambda self, examples: rows(self, examples[:1] * len(examples)))
    assert failures(None, "training/*") == ["training/rows", "training/ragged"]


def test_a_last_batch_that_is_forgotten(monkeypatch):
    run = JoinedRunner.run

    def wrong(self, order, start, stop):
        return run(self, np.concatenate([order, order[-1:]]), start, stop)  # the last run no longer ends the order

    monkeypatch.setattr(JoinedRunner, "run", wrong)
    assert failures(None, "training/batches") == ["training/batches"]


def test_a_batch_that_is_applied_though_a_run_failed(monkeypatch):
    run_batch = Team._run_batch

    def wrong(self, order, first, ends):
        status = run_batch(self, order, first, ends)
        if status:
            self.update.run(order, 0, 1)
        return status

    monkeypatch.setattr(Team, "_run_batch", wrong)
    assert failures(None, "parallel/synchronized") == ["parallel/synchronized"]


@pytest.mark.parametrize("fault", ["an example is lost", "another order each time"])
def test_an_arrangement_that_is_wrong(monkeypatch, fault):
    arrange = ConflictFree.arrange

    def wrong(self, order):
        if fault == "an example is lost":
            arranged, ends = arrange(self, order)
            return arranged, np.minimum(ends, len(order) - 1)
        return arrange(self, np.random.default_rng().permutation(order))

    monkeypatch.setattr(ConflictFree, "arrange", wrong)
    assert failures(None, "parallel/conflict_free") == ["parallel/conflict_free"]


def test_a_capability_that_is_claimed_and_absent():
    backend = faulty()
    backend.declaration = replace(backend.declaration, capabilities=Capabilities(kernels=frozenset({"row_dot"})))
    assert "gradients/add" in failures(backend, "gradients/add")


def test_what_is_not_declared_must_be_refused(monkeypatch):
    backend = faulty()
    backend.declaration = replace(backend.declaration, capabilities=Capabilities(schedules=frozenset()))
    assert failures(backend, "parallel/*") == []
    monkeypatch.setattr("wyrm.training.fitting.resolve_threads", lambda *_: 1)
    assert failures(backend, "parallel/*") == ["parallel/hogwild", "parallel/synchronized"]


def test_a_backend_without_float64_can_reach_all_levels():
    backend = faulty()
    backend.declaration = replace(backend.declaration, capabilities=Capabilities())
    assert failures(backend) == []


class TestComparisons:
    @pytest.fixture
    def context(self):
        return Context(wyrm.get_backend("reference"), 1, "x")

    def test_equal(self, context):
        context.compare("x", np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf]), 0)
        context.compare("x", np.array([1000.0]), np.array([1000.5]), 1e-3)
        context.identical("x", np.array([np.nan, -0.0]), np.array([np.nan, -0.0]))
        assert context.compared == 6

    @pytest.mark.parametrize(
        ("actual", "expected"),
        [([np.nan], [0.0]), ([0.0], [np.nan]), ([np.inf], [1.0]), ([1.0], [np.inf]), ([np.inf], [-np.inf]), ([1.0], [1.1])],
    )
    def test_different(self, context, actual, expected):
        with pytest.raises(Failure, match="element"):
            context.compare("x", np.array(actual), np.array(expected), 1e-3)

    def test_shapes_and_signs(self, context):
        with pytest.raises(Failure, match="shape"):
            context.compare("x", np.zeros((1, 2)), np.zeros((2, 1)), 1)
        with pytest.raises(Failure, match="changed from 0.0 to -0.0"):
            context.identical("x", np.array([-0.0]), np.array([0.0]))
        with pytest.raises(Failure, match="float64"):
            context.identical("x", np.zeros(1), np.zeros(1, np.float32))


class TestCommand:
    def test_failures_say_how_to_repeat_them(self, capsys, monkeypatch):
        add_rows = GradientBuffer.add_rows
        monkeypatch.setattr(GradientBuffer, "add_rows", lambda self, rows, values: add_rows(self, rows[:-1], values[:-1]))
        assert main(["--backend", "reference", "--select", "sparse/rows", "--seed", "5"]) == 1
        output = capsys.readouterr().out
        assert "FAILED  sparse/rows: rows: expected shape (7,), got (6,)" in output
        assert '--backend reference --select "sparse/rows" --seed 5' in output
        assert "level sparse: NOT reached, 0 of 1 checks passed" in output

    def test_levels(self, capsys):
        assert main(["--backend", "reference", "--level", "core", "--select", "*/a*", "--seed", "1"]) == 0
        output = capsys.readouterr().out
        assert "level core: reached" in output
        assert "level sparse" not in output

    def test_bad_arguments(self, capsys):
        assert main(["--backend", "nope"]) == 2
        assert "there is no backend 'nope'" in capsys.readouterr().err
        assert main(["--backend", "reference", "--select", "nothing*"]) == 2
        assert "no check matches nothing*" in capsys.readouterr().err
        assert main(["--backend", "no_such_module:backend"]) == 2
        assert main(["--backend", "wyrm:fit"]) == 2
        with pytest.raises(SystemExit):
            main(["--backend", "reference", "--level", "highest"])

    def test_a_backend_by_module_and_object(self, tmp_path, monkeypatch):
        (tmp_path / "someones.py").write_text(
            "from wyrm.backend import Declaration\nfrom wyrm.reference import ReferenceBackend\n"
            "declaration = Declaration(name='someones', load=ReferenceBackend, contract=(1, 1))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        backend = find_backend("someones:declaration")
        assert backend.name == "someones"
        assert failures(backend, "sparse/rows") == []

    def test_as_a_program(self):
        command = [sys.executable, "-m", "wyrm_conformance", "--backend", "reference", "--select", "gradients/a*"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 0
        assert "all checks passed" in process.stdout


def test_a_check_that_compares_nothing_fails(monkeypatch):
    monkeypatch.setitem(CHECKS, "x/y", CHECKS["sparse/rows"]._replace(name="x/y", function=lambda context: None))
    (result,) = run(wyrm.get_backend("reference"), [CHECKS["x/y"]], 1)
    assert result.failure == "the check compared nothing"
