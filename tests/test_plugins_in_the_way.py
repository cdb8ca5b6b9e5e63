"""Plugins that exit, print, hang, lack metadata or were built for another Wyrm harm nobody, and are listed with the remedy."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import wyrm
from wyrm import native, native_layout, plugins
from wyrm.backend import CONTRACT_VERSION, Declaration
from wyrm.errors import BackendError
from wyrm.hookspecs import hookimpl
from wyrm.reference import ReferenceBackend

SOURCE = """
import wyrm.backend
from wyrm.hookspecs import hookimpl
from wyrm.reference import ReferenceBackend
{before}

@hookimpl
def wyrm_backend():
    {within}
    contract = (wyrm.backend.CONTRACT_VERSION, wyrm.backend.CONTRACT_VERSION)
    return wyrm.backend.Declaration(name="{name}", load=ReferenceBackend, contract=contract, priority=-1)
"""


def install(site, name, source, metadata=True, entry_points=None):
    """A package in a folder, as pip would leave it, or as a damaged installation does."""
    (site / f"{name}.py").write_text(source)
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    if metadata:
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(entry_points or f"[wyrm]\n{name} = {name}\n".encode())
    return info


def source(name, before="", within="pass"):
    return SOURCE.format(name=name, before=before, within=within)


def python(code, *paths, **environment):
    """What a program prints, with these folders among the installed packages."""
    path = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, **environment}, check=False
    )
    assert process.returncode == 0, process.stderr
    return process


def test_what_a_plugin_prints_does_not_get_among_results(tmp_path):
    install(tmp_path, "talkative", source("talkative", "print('imported')", "print('called')"))
    process = python("import wyrm; print(len(wyrm.backends()) - len(wyrm.backends()))", tmp_path)
    assert process.stdout == "0\n"
    assert process.stderr == "imported\ncalled\n"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before", "within"])
def test_a_plugin_that_hangs_is_left_behind(tmp_path, where):
    install(tmp_path, "endless", source("endless", **{where: "import threading; threading.Event().wait()"}))
    code = """
        import wyrm, wyrm.plugins
        wyrm.plugins.DECLARE_SECONDS = 2.0
        print(*[f"{b.cause}|{b.remedy}" for b in wyrm.backends() if b.name == "endless"])
        print((wyrm.InputNode((1, 1), 2.0) * 3.0).value)
    """
    status, value = python(code, tmp_path, WYRM_BACKEND="reference").stdout.splitlines()
    assert "failed: it took more than 2 s|upgrade it, or uninstall it: pip uninstall endless" in status
    assert value == "[[6.]]"


def test_a_package_without_metadata_works_and_is_told_where_it_is(tmp_path):
    install(tmp_path, "fine", source("fine"), metadata=False)
    info = install(tmp_path, "lost", "import nowhere", metadata=False)
    code = 'import wyrm; print(*[f"{b.name}:{b.state}:{b.remedy}" for b in wyrm.backends()], sep="\\n")'
    lines = python(code, tmp_path).stdout.splitlines()
    assert "fine:declared:" in lines
    assert f"lost:broken:remove {info}, or install its package again" in lines


def test_metadata_that_cannot_be_read_hide_no_other_package(tmp_path):
    info = install(tmp_path, "damaged", source("damaged"), entry_points=b"[wyrm]\n\xff\xfe = damaged\n")
    install(tmp_path, "whole", source("whole"))
    code = 'import wyrm; print(*[f"{b.name}:{b.state}:{b.cause}:{b.remedy}" for b in wyrm.backends()], sep="\\n")'
    lines = python(code, tmp_path).stdout.splitlines()
    assert "whole:declared::" in lines
    (line,) = [line for line in lines if line.startswith("damaged:broken:")]
    assert f"the metadata of the package at {info} cannot be read: UnicodeDecodeError" in line
    assert line.endswith(f"remove {info}, or install its package again")


def test_an_entry_point_that_names_nothing_is_broken(tmp_path):
    install(tmp_path, "nameless", source("nameless"), entry_points=b"[wyrm]\nnameless = no module at all\n")
    code = 'import wyrm; print(*[b.state for b in wyrm.backends() if b.name == "nameless"])'
    assert python(code, tmp_path).stdout == "broken\n"


def test_of_two_installations_the_one_that_is_imported_counts(tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        install(tmp_path / folder, "twice", source("twice"))
    code = 'import wyrm; print(*[b.state for b in wyrm.backends() if b.name == "twice"])'
    assert python(code, tmp_path / "first", tmp_path / "second").stdout == "declared\n"


def declared(load, **options):
    module = ModuleType("made_up")
    module.wyrm_backend = hookimpl(
        lambda: Declaration(name="made_up", load=load, contract=(CONTRACT_VERSION,) * 2, priority=-1, **options)
    )
    return plugins.register(module)


def test_what_could_not_be_loaded_for_want_of_memory_can_be_loaded_later(registry):
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) < 2:
            raise MemoryError("all gone")
        return ReferenceBackend()

    status = declared(load)
    with pytest.raises(BackendError, match="'made_up' is broken: loading it failed: MemoryError: all gone; free some memory"):
        wyrm.get_backend("made_up")
    assert status.state == "broken"
    assert wyrm.get_backend("made_up").name == "made_up"
    assert (status.state, status.cause, status.remedy) == ("loaded", "", "")


def test_loading_prints_nothing_and_says_its_own_remedy(registry, capsys):
    def load():
        print("loading")
        raise BackendError("this needs a processor of another kind; choose another backend")

    declared(load)
    with pytest.raises(BackendError, match=r"^backend 'made_up' is broken: this needs .* kind; choose another backend$"):
        wyrm.get_backend("made_up")
    assert capsys.readouterr() == ("", "loading\n")


def test_ctrl_c_while_a_backend_is_loaded_is_ctrl_c(registry):
    def load():
        raise KeyboardInterrupt

    status = declared(load)
    with pytest.raises(KeyboardInterrupt):
        wyrm.get_backend("made_up")
    assert status.state == "declared"


# --- layouts


def test_no_plugin_takes_the_name_of_the_reference(tmp_path):
    """Whatever order packages are found in."""
    install(tmp_path, "aaa", source("reference"))
    code = """
        import wyrm
        print(wyrm.ParameterNode([[2.0]]).square().forward(backend="reference"))
        statuses = {status.distribution.split()[0]: status for status in wyrm.backends() if status.distribution}
        print(statuses["wyrm-autodiff"].state, statuses["aaa"].state, statuses["aaa"].cause)
    """
    told = python(code, tmp_path).stdout
    assert "loaded broken the name 'reference' is already taken by wyrm-autodiff" in told


def test_native_backends_are_written_for_this_layout():
    """If this fails: adapt the native code, then run ``make layout``."""
    script = Path(__file__).parent.parent / "backends" / "write_layout.py"
    process = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_the_fingerprint_sees_every_table(monkeypatch):
    """Another kernel, another word in a header or frame, another status: each is another layout."""
    before = native_layout.fingerprint()
    changes = [
        (native_layout, "KERNELS", dict(list(native_layout.KERNELS.items())[:-1])),
        (native_layout.clocks.Clock, "HEADER", ("last", "now")),
        (native_layout.native_frames, "FRAME", native_layout.native_frames.FRAME[1:]),
        (native_layout.native_frames, "INPUT", 10),
        (native_layout.native_runs, "TEAM", ("shards",)),
        (native_layout.memory.Report, "NO_MATRIX", 60),
        (native_layout.native_chains, "OPCODES", {"add": 1}),
        (native_layout, "REVISION", native_layout.REVISION + 1),
        (native.NativeBackend, "passes", lambda self, program, frame: None),
    ]
    seen = {before}
    for holder, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(holder, name, value)
            native_layout.fingerprint.cache_clear()
            seen.add(native_layout.fingerprint())
    native_layout.fingerprint.cache_clear()
    assert len(seen) == len(changes) + 1
    assert native_layout.fingerprint() == before


def test_native_code_of_another_layout_is_refused(backend, monkeypatch, registry):
    plugin, of_native_code = registry.find(backend), isinstance(wyrm.get_backend(), native.NativeBackend)
    monkeypatch.setattr(plugin, "backend", None)
    monkeypatch.setattr("wyrm.native.fingerprint", lambda: "0123456789abcdef")
    if not of_native_code:
        assert plugins.load(backend).name == backend
        return
    state, error = plugin.status.state, plugin.error
    try:
        with pytest.raises(BackendError, match=r"built for programs of layout .*of layout 0123456789abcdef; install versions"):
            plugins.load(backend)
    finally:
        plugin.status.state, plugin.status.cause, plugin.error = state, "", error


def test_a_library_that_was_built_from_other_sources_is_refused(tmp_path):
    """The library's own fingerprint is what counts: here it is another one's, put into a copy of the package."""
    package = pytest.importorskip("wyrm_c_simd")
    copy = tmp_path / "wyrm_c_simd"
    shutil.copytree(Path(package.__file__).parent, copy)
    own = native_layout.fingerprint().encode()
    for library in copy.glob("_*.so"):
        content = library.read_bytes()
        assert own in content
        library.write_bytes(content.replace(own, b"f" * len(own)))
    code = """
        import wyrm
        try:
            wyrm.get_backend("c_simd")
        except wyrm.BackendError as error:
            print(error)
    """
    assert "built for programs of layout ffffffffffffffff" in python(code, tmp_path).stdout


def test_numba_without_its_compiler_is_told_when_it_is_loaded():
    pytest.importorskip("numba")
    code = """
        import wyrm
        try:
            wyrm.get_backend("numba")
        except wyrm.BackendError as error:
            print(error)
    """
    message = python(code, NUMBA_DISABLE_JIT="1").stdout
    assert message.startswith("backend 'numba' is broken: NUMBA_DISABLE_JIT is set")
    assert "unset the variable" in message
