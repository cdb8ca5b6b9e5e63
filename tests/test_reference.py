"""The generated reference is up to date, complete and right; the page on adding an op shows a change that works."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import wyrm
from wyrm import optim
from wyrm.frontend.op import OPS
from wyrm.kernels import KERNELS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reference.md").read_text()


def generate(*arguments):
    command = [sys.executable, str(ROOT / "docs" / "generate_reference.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_reference_is_up_to_date(tmp_path):
    process = generate("--check")
    assert process.returncode == 0, process.stderr
    old = tmp_path / "old.md"
    old.write_text(PAGE.replace("`a`: `g * y`", "`a`: `g * 2`", 1))
    process = generate("--check", "--page", str(old))
    assert process.returncode == 1
    assert "make docs" in process.stderr


def test_the_reference_has_everything():
    for name in (*OPS, *KERNELS):
        assert f"| `{name}` |" in PAGE, name
    for name in optim.__all__:
        thing = getattr(optim, name)
        if isinstance(thing, type) and issubclass(thing, optim.Optimizer) and thing is not optim.Optimizer:
            assert f"### {name}\n" in PAGE, name


#: What printed formulas refer to.
NAMES = {
    **{name: getattr(np, name) for name in ("exp", "log", "sqrt", "abs", "tanh", "maximum", "minimum", "where")},
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}
SIMPLE = ["divide", "power", "neg", "square", "exp", "ln", "sqrt", "abs", "tanh", "sigmoid", "log_sigmoid", "softplus"]
SIMPLE += ["maximum", "minimum", "relu"]


@pytest.mark.parametrize("name", SIMPLE)
def test_printed_formulas_are_what_ops_compute(rng, name):
    """Values and gradients, evaluated with NumPy from the text of the page."""
    cells = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")).split(" | ")
    formula, gradients = cells[2].strip("`"), dict(re.findall(r"`(\w)`: `([^`]+)`", cells[3]))
    operands = {letter: rng.uniform(0.5, 2, (3, 4)) for letter in "abp"}
    count = len(set(re.findall(r"\b[abp]\b", formula)))
    nodes = {letter: wyrm.ParameterNode(value, dtype="float64") for letter, value in operands.items()}
    others = [nodes["p" if name == "power" else "b"]] if count == 2 else []
    method = {"divide": "__truediv__"}.get(name, name)
    node = getattr(nodes["a"], method)(*others)
    upstream = rng.standard_normal((3, 4))
    (node * upstream).scalar_sum().backward(1.0)
    scope = {**NAMES, **operands, "g": upstream}
    scope["y"] = eval(formula, {}, scope)
    np.testing.assert_allclose(node.value, scope["y"], rtol=1e-12)
    assert gradients
    for letter, text in gradients.items():
        text = re.sub(r"\((\w+) > (\w+)\)", r"(1.0 * (\1 > \2))", text)  # NumPy subtracts no booleans
        value = np.broadcast_to(eval(text, {}, scope), (3, 4))
        np.testing.assert_allclose(nodes[letter].gradient.to_dense(), value, rtol=1e-12)


def apply(diff, folder):
    """Apply a unified diff, finding each hunk by its context; returns the files that were changed."""
    changed = []
    for part in re.split(r"^--- .*\n", diff, flags=re.MULTILINE)[1:]:
        header, *hunks = re.split(r"^@@.*\n", part, flags=re.MULTILINE)
        path = folder / re.search(r"\+\+\+ b/(\S+)", header).group(1)
        text = path.read_text()
        for hunk in hunks:
            lines = [line or " " for line in hunk.rstrip("\n").split("\n")]
            old = "\n".join(line[1:] for line in lines if line[0] in " -")
            new = "\n".join(line[1:] for line in lines if line[0] in " +")
            assert text.count(old) == 1, f"the hunk fits {text.count(old)} times:\n{old}"
            text = text.replace(old, new)
        path.write_text(text)
        changed.append(path)
    return changed


def test_adding_an_op_takes_one_file(tmp_path):
    shutil.copytree(ROOT / "wyrm", tmp_path / "wyrm", ignore=shutil.ignore_patterns("__pycache__"))
    diff = re.search(r"^```diff\n(.*?)^```", (ROOT / "docs" / "adding-an-op.md").read_text(), re.MULTILINE | re.DOTALL).group(1)
    assert len(apply(diff, tmp_path)) == 1
    assert sum(line.startswith("+") and line.strip() != "+" for line in diff.splitlines()) <= 12
    code = """
        import numpy as np, wyrm
        assert wyrm.__file__.startswith({folder!r}), wyrm.__file__
        values = np.random.default_rng(1).standard_normal((3, 4))
        x = wyrm.ParameterNode(values, dtype="float64")
        with wyrm.use_backend("reference"):
            node = x.cube()
            np.testing.assert_allclose(node.value, values**3)
            difference, gradient = wyrm.finite_difference(x, node)
            np.testing.assert_allclose(gradient, difference, rtol=1e-6)
            assert (gradient > 0).all()
    """
    program = textwrap.dedent(code.format(folder=str(tmp_path)))
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
