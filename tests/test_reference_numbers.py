"""The numbers behind docs/reference.md: printed formulas of ops and lines of optimizers come to what is computed.

Values and gradients of ops against the ops; the lines of optimizers against the registers of their rules.
"""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wyrm
from wyrm import optim
from wyrm.frontend.op import OPS
from wyrm.kernels import KERNELS, broadcast_shapes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "reference.md").read_text(encoding="utf-8")
sys.path.insert(0, str(DOCS))

from reference_generator.examples import EXAMPLES, examples_of  # noqa: E402
from reference_generator.forms import operand_names, written  # noqa: E402
from reference_generator.listing import listing  # noqa: E402
from reference_generator.ops import broadcasts, formulas  # noqa: E402
from reference_generator.optimizers import optimizers, rule_lines, rules_of  # noqa: E402
from reference_generator.text import length  # noqa: E402


def generate(*arguments):
    return subprocess.run([sys.executable, DOCS / "generate_reference.py", *arguments], capture_output=True, text=True)


def test_the_page_is_up_to_date():
    done = generate("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_page_that_is_out_of_date_is_refused(tmp_path):
    page = tmp_path / "reference.md"
    assert generate("--check", "--page", page).returncode == 1  # there is none
    page.write_text(PAGE.replace("`g * y`", "`g * a`"), encoding="utf-8")
    done = generate("--check", "--page", page)
    assert done.returncode == 1
    assert "make docs" in done.stderr
    assert generate("--page", page).returncode == 0
    assert page.read_text(encoding="utf-8") == PAGE


def first_cells(title):
    """The first cells of a section's tables."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| `(\w+)`", section, re.MULTILINE)


def test_everything_is_on_the_page():
    assert sorted(first_cells("Ops")) == sorted([*OPS, *OPS])  # a table of formulas and one of shapes
    assert first_cells("Kernels") == list(KERNELS)
    exported = {
        name
        for name in optim.__all__
        if inspect.isclass(thing := getattr(optim, name)) and issubclass(thing, optim.Optimizer) and name != "Optimizer"
    }
    section = PAGE[PAGE.index("\n## Optimizers") :]
    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == exported == {o.__name__ for o in optimizers()}


@pytest.mark.parametrize("name", OPS)
def test_every_op_is_written_somehow(name):
    op = OPS[name]
    forms = written(op, operand_names(op, len(examples_of(op)[0].shapes)))
    assert forms
    assert set(EXAMPLES) <= set(OPS)


# --- The printed formulas of ops --------------------------------------------------------------------------------


class Matrix(np.ndarray):
    """An array of which comparisons are 1 and 0, as kernels make them."""

    def __gt__(self, other):
        return np.greater(np.asarray(self), np.asarray(other)).astype(float).view(Matrix)

    def __lt__(self, other):
        return np.less(np.asarray(self), np.asarray(other)).astype(float).view(Matrix)


def matrix(array):
    return np.asarray(array, float).view(Matrix)


def _sum(a, axis=None):
    return matrix(np.sum(np.asarray(a), axis=axis, keepdims=True))


NAMESPACE = {
    "__builtins__": {},
    **{name: getattr(np, name) for name in ("exp", "log", "sqrt", "tanh", "abs", "maximum", "minimum")},
    "where": lambda c, a, b: np.where(np.asarray(c) != 0, a, b).view(Matrix),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "softplus": lambda a: np.log(1 + np.exp(a)),
    "sum": _sum,
    "row_max": lambda a: a.max(axis=1, keepdims=True),
    "row_dot": lambda a, b: _sum(a * b, axis=1),
    "row_mean": lambda a: a.mean(axis=1, keepdims=True),
    "logsumexp": lambda a: np.log(_sum(np.exp(a), axis=1)),
    "softmax": lambda a: np.exp(a) / _sum(np.exp(a), axis=1),
}


def evaluated(text, **values):
    """What a printed formula comes to."""
    return np.asarray(eval(text, NAMESPACE, {name: matrix(value) for name, value in values.items()}))


ELEMENTWISE = [name for name, op in OPS.items() if op.shape is broadcast_shapes] + [
    name for name, op in OPS.items() if op.forward.__module__.rsplit(".", 1)[1] in ("functions", "choices", "elementwise")
]
CHECKED = sorted({*ELEMENTWISE, "dot", "vector_dot", "t", "logsumexp", "softmax", "log_softmax"})


def test_formulas_of_many_ops_are_checked():
    assert len(CHECKED) >= 26


@pytest.mark.parametrize("name", CHECKED)
def test_printed_formulas_are_what_is_computed(name, rng):
    """The value, and the gradient of each operand that has one."""
    op = OPS[name]
    printed = formulas(op, examples_of(op)[0])
    assert f"`{printed.value}`" in PAGE
    # positive numbers, in the domain of logarithms and powers, and then of both signs
    for low in (0.2,) if name in ("ln", "sqrt", "power") else (0.2, -1.5):
        shapes = [(4, 3), (3, 5)] if name == "dot" else [(4, 3)] * len(printed.names)
        values = {n: rng.uniform(low, 1.5, shape) for n, shape in zip(printed.names, shapes, strict=True)}
        nodes = [
            wyrm.ParameterNode(value, dtype="float64") if vjp else wyrm.InputNode(value.shape, value, dtype="float64")
            for value, vjp in zip(values.values(), op.vjps, strict=True)
        ]
        node = wyrm.frontend.node.apply(op, *nodes)
        y = evaluated(printed.value, **values)
        np.testing.assert_allclose(y, node.value, rtol=1e-12, atol=1e-12)
        g = rng.standard_normal(node.shape)
        loss = (node * g).scalar_sum()
        loss.forward()
        loss.backward(1.0)
        for text, parameter in zip(printed.gradients, nodes, strict=True):
            assert (text == "none") == isinstance(parameter, wyrm.InputNode)
            if text != "none":
                gradient = evaluated(text, **values, y=y, g=g)
                np.testing.assert_allclose(gradient, parameter.gradient.to_dense(), rtol=1e-12, atol=1e-12)
        loss.zero_gradient()


def test_what_is_said_of_broadcasting():
    assert all(broadcasts(op) for op in OPS.values() if op.shape is broadcast_shapes)
    assert broadcasts(OPS["vector_dot"])
    for name in ("dot", "stack", "index", "pick", "dropout_mask", "lstm_cell"):
        assert not broadcasts(OPS[name]), name


def test_parentheses_stand_where_they_are_needed():
    from wyrm.frontend.lowering.emitter import Emitter
    from wyrm.frontend.lowering.value import Value

    k = Emitter()
    a, b, c = (Value("", shape=(3, 4)) for _ in "abc")

    def text(value):
        ((_, found),) = listing([("", value)], {a: "a", b: "b", c: "c"}, 100)
        return found

    assert text(k.subtract(a, k.subtract(b, c))) == "a - (b - c)"
    assert text(k.subtract(k.subtract(a, b), c)) == "a - b - c"
    assert text(k.multiply(k.add(a, b), c)) == "(a + b) * c"
    assert text(k.divide(a, k.multiply(b, c))) == "a / (b * c)"
    assert text(k.add(a, k.negate(b))) == "a + (-b)"
    assert text(k.negate(k.add(a, b))) == "-(a + b)"
    assert text(k.power(k.negate(a), k.literal(2.0))) == "(-a) ** 2"
    assert text(k.multiply(k.greater(a, b), c)) == "(a > b) * c"
    assert text(k.multiply(k.literal(1.0), a)) == "a"
    assert [length(number).text for number in (0.0, 1.0, 0.5, 2.0, 20011, 4 * 20011)] == ["0", "1", "0.5", "2", "k", "4 * k"]


# --- The printed lines of optimizers -----------------------------------------------------------------------------

RULES = [(f"{o.__name__}: {title}", rule) for o in optimizers() for title, rule in rules_of(o)]


@pytest.mark.parametrize(("title", "rule"), RULES, ids=[title for title, _ in RULES])
def test_printed_lines_are_what_the_rule_computes(title, rule, rng):
    """Line after line, against the registers."""
    names = ["value", "gradient", *(state.name for state in rule.states), *rule.scalars]
    rows = {"value", "gradient", *(state.name for state in rule.states if state.per == "element")}
    given = {name: rng.uniform(0.1, 0.6, (1, 5) if name in rows else (1, 1)) for name in names}
    registers = [*given.values(), *(np.full((1, 1), literal) for literal in rule.literals)]
    for step in rule.steps:
        assert step.out == len(registers)
        operands = [matrix(registers[operand]) for operand in step.operands]
        registers.append(np.asarray(KERNEL[step.kernel](*operands)))
    values = dict(given)
    for line in rule_lines(rule):
        assert line in PAGE.splitlines()
        name, text = line.split(" = ", 1)
        values[name] = evaluated(text, **values)
    for name, result in zip(["value", *(state.name for state in rule.states)], rule.results, strict=True):
        np.testing.assert_allclose(values[name], registers[result], rtol=1e-10, err_msg=name)


KERNEL = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negate": np.negative,
    "absolute": np.abs,
    "power": np.power,
    "sqrt": np.sqrt,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": lambda a, b: a > b,
    "select": NAMESPACE["where"],
    "row_mean": NAMESPACE["row_mean"],
}
