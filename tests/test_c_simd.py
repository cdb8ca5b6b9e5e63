"""The C backend: its instruction sets, its tables, and its bounds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wyrm
from wyrm import memory, native
from wyrm.frontend.lowering.fuse import LONGEST
from wyrm.kernels import KERNELS
from wyrm.memory import Report

backend_module = pytest.importorskip("wyrm_c_simd.backend", reason="wyrm-c-simd is not installed")
SOURCES = Path(__file__).parent.parent / "backends" / "c_simd_backend" / "csrc"


def test_the_best_instruction_set_is_taken(monkeypatch):
    monkeypatch.delenv(backend_module.ENVIRONMENT_VARIABLE, raising=False)
    usable = [n for n, number in backend_module.INSTRUCTION_SETS.items() if backend_module.lib.wyrm_runs_here(number)]
    assert backend_module.CSimdBackend().instruction_set == usable[0]
    assert usable[-1] == "portable"


def test_each_instruction_set_can_be_forced(monkeypatch):
    for name, number in backend_module.INSTRUCTION_SETS.items():
        monkeypatch.setenv(backend_module.ENVIRONMENT_VARIABLE, name)
        if backend_module.lib.wyrm_runs_here(number):
            assert backend_module.CSimdBackend().instruction_set == name
        else:
            with pytest.raises(wyrm.BackendError, match=f"={name}: this instruction set is not one that this machine has"):
                backend_module.CSimdBackend()
    monkeypatch.setenv(backend_module.ENVIRONMENT_VARIABLE, "sse9")
    with pytest.raises(wyrm.BackendError, match="=sse9: .*was not built into this library; choose one of .*portable"):
        backend_module.CSimdBackend()


def test_an_instruction_set_that_is_not_there_breaks_nothing_else():
    environment = {**os.environ, backend_module.ENVIRONMENT_VARIABLE: "sse9"}
    code = "import warnings; warnings.simplefilter('ignore'); import wyrm; print(wyrm.get_backend().name)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert process.stdout.strip() != "c_simd"


def test_every_kernel_is_there_for_every_instruction_set():
    for name, number in backend_module.INSTRUCTION_SETS.items():
        for kernel in {*KERNELS, "fused_single", *(f"fused_sums_{n}" for n in (1, 2, 3, 4))} - {"lookup"}:
            for is_double in (False, True):
                assert backend_module.lib.wyrm_kernel(number, is_double, kernel.encode()), (name, kernel)
        assert not backend_module.lib.wyrm_kernel(number, False, b"no such kernel")
    assert not backend_module.lib.wyrm_kernel(-1, False, b"add")
    assert not backend_module.lib.wyrm_kernel(99, False, b"add")


def _enumeration(first: str) -> list[str]:
    """The names of the enumeration in table.h that begins so."""
    text = (SOURCES / "table.h").read_text()
    begin = text.index(f"enum {{ {first}")
    return [name.split("=")[0].strip() for name in text[begin : text.index("}", begin)].split("{")[1].split(",")]


def test_the_header_says_what_the_frontend_says():
    listed = re.findall(r"^(?:UN|BIN|TERN)ARY\((\w+),", (SOURCES / "kernels" / "elementwise.def").read_text(), re.MULTILINE)
    assert [*listed, "row_mean"] == list(native.OPCODES)
    opcodes = re.findall(r"OPCODE_(\w+),", (SOURCES / "kernels" / "elementwise.h").read_text())
    assert [name.lower() for name in opcodes] == ["row_mean", *native.CHAIN_OPCODES]
    assert f"#define CHAIN_REGISTERS (5 * {LONGEST})" in (SOURCES / "kernels" / "chains.h").read_text()
    assert _enumeration("DENSE") == [name.upper() for name in native.INPUT_KINDS]
    assert _enumeration("FLOAT32") == [name.upper() for name in memory.SOURCE_DTYPES]
    for number, name in enumerate(_enumeration("INDEX_OUT_OF_RANGE"), 1):
        assert getattr(Report, name) == number


def test_short_passes_keep_the_gil_and_others_leave_it():
    """By what a program handles; how many numbers a bag has, or how often is drawn, is not known before."""
    from wyrm.short_programs import is_short

    table = wyrm.ParameterNode(np.ones((100_000, 8)))
    row, wide = table.index(wyrm.IndexInputNode(1, 3)), wyrm.InputNode((64, 64), np.ones((64, 64)))
    weights = wyrm.ParameterNode(np.ones((64, 64)))
    sample = wyrm.SampledIndexNode(100_000, seed=1)
    expected = {
        (row.square().scalar_sum() - 2.0).square(): True,
        (wide[:1] @ weights).scalar_sum(): True,
        (wide @ weights).scalar_sum(): False,
        table.index_sum(wyrm.BagInputNode(1, [[1, 2]])).scalar_sum(): False,
        table.index(sample).scalar_sum().redraw(sample, 3): False,
    }
    for loss, short in expected.items():
        loss.forward(backend="c_simd")
        assert is_short(loss._workspace.binding.program) == short
        loss.backward(2)
        with pytest.raises(wyrm.DTypeError, match="expected a number as weight"):
            loss.backward("much")
