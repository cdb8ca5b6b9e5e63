"""What is documented is true: examples in docstrings and in the README are run, and names are explained."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import wyrm

ROOT = Path(__file__).parent.parent
MODULES = [
    name
    for package in ("wyrm", "wyrm_conformance", "wyrm_c_simd", "wyrm_numba")
    for name in [package] + [m.name for m in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")]
    if not name.endswith("__main__") and not name.startswith("wyrm_c_simd._native")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    examples = sum(len(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name)))
    assert examples > 40


def blocks(path):
    """The Python code of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def test_the_readme_runs(backend):
    """From top to bottom, on every backend."""
    code = blocks(ROOT / "README.md")
    assert len(code) >= 5
    namespace = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["wyrm_backend"]().name == "mine"


def test_the_page_on_sequences_runs(backend):
    namespace = {}
    for block in blocks(ROOT / "docs" / "sequences.md"):
        exec(compile(block, "sequences.md", "exec"), namespace)


def test_the_pages_on_threads_and_memory_run(backend, capsys):
    for page in ("threads.md", "memory.md"):
        for block in blocks(ROOT / "docs" / page):
            exec(compile(block, page, "exec"), {"wyrm": wyrm})
    assert "two threads use its graph at once" in capsys.readouterr().out


def test_links_of_the_readme_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*/README.md"), *ROOT.glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("name", [name for name in wyrm.__all__ if name != "__version__"])
def test_public_names_are_documented(name):
    thing = getattr(wyrm, name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        own = [n for n, member in vars(thing).items() if not n.startswith("_") and callable(member)]
        for method in own:
            assert inspect.getdoc(getattr(thing, method)), f"{name}.{method}"


def test_the_design_names_the_files_that_there_are():
    """Every path of the layout in docs/design.md exists."""
    text = (ROOT / "docs" / "design.md").read_text()
    layout = text[text.index("## Where things are") : text.index("* A new **op**")]
    for name in re.findall(r"[\w/]+\.py\b", layout):
        assert list(ROOT.glob(f"wyrm/**/{name}")), name
    for folder in (
        "wyrm/frontend/ops",
        "wyrm/frontend/lowering",
        "wyrm/optim",
        "wyrm/training",
        "conformance/wyrm_conformance",
    ):
        assert (ROOT / folder).is_dir()
        assert folder.rsplit("/", 1)[1] in layout


def test_the_readme_lists_the_ops():
    from wyrm.frontend.op import OPS

    text = (ROOT / "README.md").read_text()
    listed = set(re.search(r"the ops `([^`]+)`", text).group(1).split())
    symbols = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "**": "power", "dropout": "dropout_mask"}
    symbols |= {"==": "equal", "!=": "not_equal", "<": "less", ">": "greater", "<=": "less_equal", ">=": "greater_equal"}
    assert {symbols.get(name, name) for name in listed} == set(OPS)
