"""Who may know whom."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wyrm.backend import CONTRACT_VERSION, KERNELS

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "wyrm").rglob("*.py")) + sorted((ROOT / "conformance" / "wyrm_conformance").rglob("*.py"))


def imports(path):
    """The modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_names_no_backend(path):
    text = path.read_text()
    for name in ("c_simd", "numba"):
        assert name not in text.lower(), f"{path} names {name}"


#: The kernels that every backend must have, by the version of the contract that says so.
REQUIRED_KERNELS = {
    2: "add subtract multiply divide negate exp log sqrt absolute tanh sigmoid softplus power maximum minimum greater select "
    "copy sum row_max transpose matmul gather scatter accumulate_rows pick place gather_bag scatter_bag accumulate_bag "
    "dropout_mask draw update update_rows update_gradient merge_gradient square_sum current current_rows current_bag tick",
}


def test_a_kernel_that_becomes_required_raises_the_contracts_version():
    """If this fails: raise CONTRACT_VERSION, and write down here what that version requires."""
    required = {kernel.name for kernel in KERNELS.values() if not kernel.optional}
    assert set(REQUIRED_KERNELS[CONTRACT_VERSION].split()) == required


LAYERS = {
    # who: whom it may not import
    "wyrm/program.py": ("wyrm.frontend", "wyrm.backend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/memory.py": ("wyrm.frontend", "wyrm.backend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/backend.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/kernel_backend.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/runs.py": ("wyrm.frontend", "wyrm.backend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/native_runs.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/native_code.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/native.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/reference.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins"),
    "wyrm/plugins.py": ("wyrm.frontend", "wyrm.optim", "wyrm.training"),
    "wyrm/frontend": ("wyrm.optim", "wyrm.training", "wyrm.reference", "wyrm.kernel_backend", "wyrm.native"),
    "wyrm/frontend/lowering": ("wyrm.backend", "wyrm.frontend.node", "wyrm.frontend.binding", "wyrm.selection"),
    "wyrm/checkpoints": ("wyrm.training", "wyrm.backend", "wyrm.reference", "wyrm.kernel_backend", "wyrm.native"),
    "wyrm/optim": ("wyrm.training", "wyrm.reference", "wyrm.kernel_backend", "wyrm.native"),
    "wyrm/training": ("wyrm.reference", "wyrm.kernel_backend", "wyrm.native"),
    "backends": ("wyrm.frontend", "wyrm.optim", "wyrm.training", "wyrm.plugins", "wyrm.reference"),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer):
    place = ROOT / layer
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path):
            for forbidden in LAYERS[layer]:
                assert module != forbidden and not module.startswith(f"{forbidden}."), f"{path} imports {module}"


def test_modules_open_with_what_they_are_for():
    for path in [p for folder in ("wyrm", "backends", "conformance", "examples") for p in (ROOT / folder).rglob("*.py")]:
        assert ast.get_docstring(ast.parse(path.read_text())), path
    for path in (ROOT / "backends" / "c_simd_backend" / "csrc").rglob("*.[ch]"):
        if "cdef" not in path.name and "includes" not in path.name:
            assert path.read_text().startswith("//"), path


def test_importing_wyrm_needs_numpy_and_pluggy_alone():
    code = """
        import sys

        refused = {"tqdm", "safetensors", "numba", "cffi", "scipy", "matplotlib", "rich", "wyrm_c_simd", "wyrm_numba"}

        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in refused:
                    raise ImportError(name)

        sys.meta_path.insert(0, Refuse())
        before = set(sys.modules)
        import wyrm
        x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(0.0)
        wyrm.fit((x * w - x).square(), {x: [1.0] * 20}, wyrm.optim.SGD(0.1, [w]), backend="reference")
        assert abs(w.value - 1) < 0.1
        loaded = {m.split(".")[0] for m in set(sys.modules) - before if "site-packages" in str(sys.modules[m])}
        assert loaded <= {"numpy", "pluggy"}, loaded
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True)


def test_the_c_sources_are_warning_free_by_the_makefile():
    assert "WYRM_WERROR=ON" in (ROOT / "Makefile").read_text()
    assert "-Werror" in (ROOT / "backends" / "c_simd_backend" / "CMakeLists.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "extras", [("-march=x86-64",), ("-mavx2", "-mfma"), ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw")]
)
def test_kernels_compile_without_warnings(extras):
    """Where there is a C compiler: every instruction set and kind of number, with more warnings than the build asks for.

    Those that need the optimizer are errors of the build itself.
    """
    import platform
    import shutil

    compiler = shutil.which("cc")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no C compiler for x86-64")
    source = ROOT / "backends" / "c_simd_backend" / "csrc" / "kernels" / "kernels.c"
    for kind in ((), ("-DWYRM_DOUBLE",)):
        command = [
            compiler,
            "-std=gnu11",
            "-fsyntax-only",
            "-Wall",
            "-Wextra",
            "-Wshadow",
            "-Wundef",
            "-Wvla",
            "-Wdouble-promotion",
            "-Werror",
        ]
        command += ["-DWYRM_KERNELS=table", *extras, *kind, str(source)]
        subprocess.run(command, check=True)
