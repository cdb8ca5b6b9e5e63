"""Numba's compiled code on disk: what is damaged or was not written to its end is compiled anew, with a word."""

import logging
import signal
import subprocess
import sys

import pytest

pytest.importorskip("numba")
from wyrm_numba import cache

SOURCE = '''"""Twice a number."""

from numba import njit


@njit("int64(int64)", cache=True)
def twice(x):
    return 2 * x
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def compiled(monkeypatch, folder, caplog):
    """Import the module as a new process would: how often it was found on disk, what was said, what it computes."""

    def again():
        monkeypatch.setattr(cache, "_MODULES", {})
        caplog.clear()
        with caplog.at_level(logging.WARNING, "wyrm.numba"):
            function = cache.cached_module("twice", SOURCE).twice
        return sum(function.stats.cache_hits.values()), len(caplog.records), function(21)

    return again


def files(folder, pattern):
    found = list((folder / "__pycache__").glob(pattern))
    assert found
    return found


def test_what_is_whole_is_used(compiled):
    assert compiled() == (0, 0, 42)
    assert compiled() == (1, 0, 42)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", ["empty", "short", "one bit", "zeros at the end", "another file"])
def test_what_is_damaged_is_compiled_anew(compiled, folder, kind, damage, caplog):
    compiled()
    (file,) = files(folder, f"*.{kind}")
    content = file.read_bytes()
    file.write_bytes(
        {
            "empty": b"",
            "short": content[: len(content) // 2],
            "one bit": content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
            "zeros at the end": content[:-100] + bytes(100),
            "another file": files(folder, "*.nbc" if kind == "nbi" else "*.nbi")[0].read_bytes(),
        }[damage]
    )
    assert compiled() == (0, 1, 42)
    assert str(folder) in caplog.text
    assert "compiled anew" in caplog.text
    assert compiled() == (1, 0, 42)


def test_what_a_killed_process_has_left_is_compiled_anew(compiled, folder):
    compiled()
    for mark in (folder / "whole").iterdir():
        mark.unlink()
    assert compiled() == (0, 1, 42)


def test_a_source_that_is_damaged_is_written_anew(compiled, folder):
    compiled()
    (source,) = folder.glob("twice_*.py")
    source.write_text(SOURCE.replace("2 * x", "3 * x"))
    assert compiled()[2] == 42


def test_two_processes_that_compile_the_same_do_not_accuse_each_other(compiled, folder):
    """One replaces what the other has vouched for; both versions stay vouched for."""
    compiled()
    first = {file: file.read_bytes() for file in files(folder, "*.nb[ic]")}
    for file in first:
        file.unlink()
    compiled()
    for file, content in first.items():
        file.write_bytes(content)
    assert compiled()[1:] == (0, 42)


SLOWLY = """
import sys, time
from pathlib import Path
from wyrm_numba import cache

cache._FOLDER = Path(sys.argv[1])
Path(sys.argv[1], "ready", sys.argv[2]).touch()
while len(list(Path(sys.argv[1], "ready").iterdir())) < 2:
    time.sleep(0.001)
function = cache.cached_module("twice", Path(sys.argv[1], "source").read_text()).twice
print(function(21), sum(function.stats.cache_hits.values()))
"""


@pytest.mark.skipif(cache.fcntl is None, reason="this system has no locks of files")
def test_of_two_processes_that_begin_at_once_one_compiles(folder):
    """The other one finds what was compiled, without a word."""
    (folder / "source").write_text(SOURCE + "\n\nimport time\ntime.sleep(0.5)\n")
    (folder / "ready").mkdir()
    command = [sys.executable, "-c", SLOWLY, str(folder)]
    both = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for name in "ab"]
    said = [process.communicate(timeout=600) for process in both]
    assert sorted(out.split()[1] for out, _ in said) == ["0", "1"], said
    assert [out.split()[0] for out, _ in said] == ["42", "42"]
    assert [err for _, err in said] == ["", ""]
    assert not list(folder.glob("*.lock"))


@pytest.mark.skipif(cache.fcntl is None, reason="this system has no locks of files")
def test_nobody_waits_for_ever_for_a_process_that_hangs(compiled, folder, monkeypatch):
    monkeypatch.setattr(cache, "_PATIENCE", 0.1)
    compiled()
    (source,) = folder.glob("twice_*.py")
    for file in files(folder, "*.nb[ic]"):
        file.unlink()
    with source.with_suffix(".lock").open("w") as held:
        cache.fcntl.flock(held, cache.fcntl.LOCK_EX)
        assert compiled() == (0, 0, 42)


FORGETTING = """
import ctypes, os, signal

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.SIGINT)

callback()
{then}
"""


@pytest.mark.parametrize("then", ["raise RuntimeError('no compiled object yet')", "twice = 2"])
def test_an_interruption_that_a_callback_forgets_is_raised_still(folder, monkeypatch, then):
    """LLVM calls Python back while it compiles."""
    monkeypatch.setattr(cache, "_MODULES", {})
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        cache.cached_module("forgetting", FORGETTING.format(then=then))
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, lambda number, frame: None)  # somebody's own, which goes on
    try:
        if then.startswith("twice"):
            assert cache.cached_module("forgetting", FORGETTING.format(then=then)).twice == 2
    finally:
        signal.signal(signal.SIGINT, before)
