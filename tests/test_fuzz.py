"""The fuzzer: a few cases of each target find nothing, and what is planted is found, printed and short."""

import contextlib
import runpy
import sys

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import cases, children, models, shrinking

#: How many cases of each target are run, and by which seed.
COUNTS = {"checkpoints": 25, "feeds": 100, "classes": 40, "models": 25, "programs": 60}
SEED = 20260101


@pytest.fixture(params=COUNTS)
def target(request, monkeypatch):
    module = fuzz.load(request.param)
    reason = getattr(module, "missing", lambda: None)()
    if reason:
        pytest.skip(reason)
    monkeypatch.setattr(models, "BACKENDS", ("reference", "c_simd"))  # others may have to compile first
    return module


def findings(module, count):
    """The findings among so many cases, with their numbers."""
    for number, report in children.run_all(0, count, lambda number: fuzz.tried(module, SEED, number)):
        if report is not None:
            yield number, fuzz.as_finding(module, SEED, number, report)


def test_a_few_cases_find_nothing(target):
    found = [cases.script(target, finding, f"case {number}") for number, finding in findings(target, COUNTS[target.NAME])]
    assert not found, "\n".join(found)


def test_what_is_planted_is_found(target, tmp_path, monkeypatch):
    """And its script fails on its own, as long as the fault is there."""
    monkeypatch.chdir(tmp_path)
    with target.planted():
        number, finding = next(findings(target, 400))
        short = shrinking.shortened(target, finding, most=15)
        assert short.key == finding.key and len(short.ran) <= len(finding.ran)
        text = cases.script(target, short, f"case {number}")
        (tmp_path / "finding.py").write_text(text)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever was found
            runpy.run_path(str(tmp_path / "finding.py"))
    with contextlib.suppress(Exception):  # what is a finding no longer may be refused
        runpy.run_path(str(tmp_path / "finding.py"))


def test_the_same_seed_writes_the_same_cases(target):
    first, second = ([target.write(cases.generator(SEED, target.NAME, n)) for n in range(5)] for _ in range(2))
    assert first == second != [target.write(cases.generator(SEED + 1, target.NAME, n)) for n in range(5)]


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("killed by SIGSEGV", "import ctypes; ctypes.string_at(0)"),
        ("takes too long", "while True: pass"),
        ("ended with status 3", "import os; os._exit(3)"),
        ("MemoryError", "bytearray(1 << 34)"),
    ],
)
def test_what_ends_a_child_is_a_report(monkeypatch, what, work):
    monkeypatch.setattr(children, "PROCESSOR_SECONDS", 0.2)

    def tried(number):
        if number == 1:
            try:
                exec(work)
            except MemoryError:
                return {"what": "MemoryError", "where": "here"}
        return None

    found = dict(children.run_all(0, 3, tried))
    assert [report and report["what"] for report in found.values()] == [None, what, None]


def test_the_command_says_what_it_did(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--seconds", "0.2", "--only", "feeds", "--seed", str(SEED)])
    assert fuzz.main() == 0
    assert "no finding" in capsys.readouterr().out
    assert fuzz.again(fuzz.load("feeds"), SEED, 0) == 0
