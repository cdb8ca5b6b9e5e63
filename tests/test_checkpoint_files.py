"""Files of checkpoints: whole after a kill, harmless if they are hostile, and errors that say what is wrong."""

import fcntl
import json
import os
import socket
import struct

import numpy as np
import pytest
from checkpointed_model import Model
from kill_checkpoints import kill
from safetensors.numpy import load_file, save_file

import wyrm
from wyrm.checkpoints.files import read_file, write_file


@pytest.fixture
def file(tmp_path):
    model = Model("adam")
    model.fit(1, seed=1, callbacks=[wyrm.Checkpoint(tmp_path / "m")], backend="reference")
    return tmp_path / "m"


def refused(path, kind=wyrm.CheckpointError, pattern=None):
    """Neither loaded nor resumed from, and nothing changes."""
    model = Model("adam")
    before = model.values()
    for attempt in (
        lambda: wyrm.load(path),
        lambda: wyrm.load(path, model.loss),
        lambda: wyrm.load(path, model.loss, model.optimizer),
        lambda: model.fit(3, resume=path, backend="reference"),
    ):
        with pytest.raises(kind, match=pattern):
            attempt()
    for a, b in zip(model.values(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_truncated_files(file):
    """At every tenth of the length, within the header, and one byte short or long."""
    data = file.read_bytes()
    header = struct.unpack("<Q", data[:8])[0]
    cuts = {len(data) * n // 10 for n in range(10)} | {1, 7, 8, 9, 8 + header // 2, 8 + header, len(data) - 1}
    for cut in sorted(cuts):
        file.write_bytes(data[:cut])
        refused(file)
    file.write_bytes(data + b"\0")
    refused(file)


def test_bytes_that_have_changed(file, rng):
    """Any of them: in the header, the document, the arrays."""
    data = file.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*range(8), *rng.integers(8, header, 150), *rng.integers(header, len(data), 100)]
    model = Model("adam")
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        with pytest.raises(wyrm.CheckpointError):
            wyrm.load(file, model.loss, model.optimizer)
    file.write_bytes(data)
    wyrm.load(file, model.loss, model.optimizer)


def header_only(header, body=b"", length=None):
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + body


TENSOR = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
HOSTILE = {
    "empty": b"",
    "text": b"not a checkpoint at all, but long enough for a header",
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "header longer than the file": header_only({}, length=1 << 20),
    "header of all memory": header_only({}, length=2**63),
    "header of -1": header_only({}, length=2**64 - 1),
    "no JSON": header_only(b"{" * 50),
    "deep": header_only(b'{"a":' * 50_000),
    "a list": header_only([1, 2]),
    "huge shape": header_only({"a": {**TENSOR, "shape": [2**40, 2**40]}}, bytes(16)),
    "overflowing shape": header_only({"a": {**TENSOR, "shape": [2**62, 4]}}, bytes(16)),
    "huge and empty": header_only({"a": {"dtype": "F32", "shape": [2**62, 0], "data_offsets": [0, 0]}}),
    "negative shape": header_only({"a": {**TENSOR, "shape": [-2, -2]}}, bytes(16)),
    "offsets beyond the file": header_only({"a": {**TENSOR, "data_offsets": [0, 1 << 40]}}, bytes(16)),
    "offsets that fall": header_only({"a": {**TENSOR, "data_offsets": [16, 0]}}, bytes(16)),
    "shape and bytes": header_only({"a": {**TENSOR, "shape": [2, 3]}}, bytes(16)),
    "unknown dtype": header_only({"a": {**TENSOR, "dtype": "Q7"}}, bytes(16)),
    "bfloat16": header_only({"a": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}, bytes(16)),
    "overlapping": header_only({"a": TENSOR, "b": TENSOR}, bytes(16)),
    "metadata of numbers": header_only({"__metadata__": {"wyrm": 3}, "a": TENSOR}, bytes(16)),
    "foreign": header_only({"a": TENSOR}, bytes(16)),
    "a checksum of its own": header_only({"__metadata__": {"wyrm": "{}", "checksum": "0"}, "a": TENSOR}, bytes(16)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    (tmp_path / "m").write_bytes(HOSTILE[name])
    refused(tmp_path / "m")


def test_places_that_are_no_files(tmp_path):
    refused(tmp_path, pattern="expected a file")
    refused(tmp_path / "missing", FileNotFoundError)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")
    refused("/dev/zero")


def test_files_of_others(tmp_path):
    save_file({"users": np.ones((2, 2), np.float32)}, tmp_path / "m", {"format": "np"})
    refused(tmp_path / "m", pattern="none that wyrm.save wrote")


REPLACEMENTS = [None, 0, -1, 2**70, 0.5, 1e400, "x", "", [], [[]], {}, {"a": 1}, True, [None], ["users"], [{}]]


@pytest.mark.slow
def test_documents_of_any_kind(file, rng):
    """With a right checksum, and any value replaced or left out: the same errors, and nothing changes."""
    arrays, document = read_file(file)

    def places(value, path=()):
        yield path
        if isinstance(value, dict):
            for key in value:
                yield from places(value[key], (*path, key))
        elif isinstance(value, list):
            for n in range(len(value)):
                yield from places(value[n], (*path, n))

    model, count = Model("adam"), 0
    before = model.values()
    attempts = (
        lambda model: wyrm.load(file),
        lambda model: wyrm.load(file, model.loss, model.optimizer),
        lambda model: model.fit(1, resume=file, backend="reference"),
    )
    for path in [place for place in places(document) if place and place != ("format",)]:
        for replacement in [*rng.permutation(np.array(REPLACEMENTS, object)).tolist()[:5], "left out"]:
            changed = json.loads(json.dumps(document))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if isinstance(replacement, str) and replacement == "left out":
                del inner[path[-1]]
            else:
                if replacement == inner[path[-1]] or replacement == float("inf"):
                    continue
                inner[path[-1]] = replacement
            write_file(file, arrays, changed)
            for attempt in attempts:
                try:
                    attempt(model)
                except wyrm.CheckpointError:
                    count += 1
                    for a, b in zip(model.values(), before, strict=True):
                        np.testing.assert_array_equal(a, b)
                else:  # what was replaced is of no consequence here
                    model = Model("adam")
    assert count > 300


def test_arrays_that_are_missing_or_others(file):
    arrays, document = read_file(file)
    for name in arrays:
        write_file(file, {key: array for key, array in arrays.items() if key != name}, document)
        model = Model("adam")
        with pytest.raises(wyrm.CheckpointError):
            wyrm.load(file, model.loss, model.optimizer)
        write_file(file, {**arrays, name: np.zeros((7, 7), np.float32)}, document)
        with pytest.raises(wyrm.CheckpointError, match=r"expected shape .*found \(7, 7\)"):
            wyrm.load(file, model.loss, model.optimizer)
    write_file(file, arrays, {**document, "format": 2})
    refused(file, pattern="another version")


# -- writing


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    a = wyrm.ParameterNode(1.0, name="a")
    path = tmp_path / "m"
    wyrm.save(path, [a])
    a.set_value(2.0)
    for error in (OSError, KeyboardInterrupt):

        def fail(*_, error=error):
            raise error("on purpose")

        for name in ("fsync", "replace"):
            with monkeypatch.context() as patch:
                patch.setattr(f"wyrm.checkpoints.files.os.{name}", fail)
                with pytest.raises(error, match="on purpose"):
                    wyrm.save(path, [a])
            assert os.listdir(tmp_path) == ["m"]
            assert wyrm.load(path).parameters["a"] == 1
    with pytest.raises(FileNotFoundError):
        wyrm.save(tmp_path / "nowhere" / "m", [a])
    wyrm.save(path, [a])
    assert wyrm.load(path).parameters["a"] == 2


def test_what_is_put_in_its_place_is_on_the_disk(tmp_path, monkeypatch):
    """The file that is renamed is the one that was synchronized, then the folder is; others may read it as any new file."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        "wyrm.checkpoints.files.os.fsync", lambda number: (calls.append(("sync", os.fstat(number).st_ino)), fsync(number))
    )
    monkeypatch.setattr(
        "wyrm.checkpoints.files.os.replace", lambda a, b: (calls.append(("replace", os.stat(a).st_ino)), replace(a, b))
    )
    wyrm.save(tmp_path / "m", [wyrm.ParameterNode(1.0)])
    file = (tmp_path / "m").stat()
    assert calls == [("sync", file.st_ino), ("replace", file.st_ino), ("sync", tmp_path.stat().st_ino)]
    (tmp_path / "other").touch()
    assert file.st_mode == (tmp_path / "other").stat().st_mode


def test_links_stay_links(tmp_path):
    """Whether there is a file behind them yet or not."""
    a = wyrm.ParameterNode(1.0, name="a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(os.path.join("folder", "m"))
    for value in (1.0, 2.0):
        a.set_value(value)
        wyrm.save(tmp_path / "link", [a])
        assert (tmp_path / "link").is_symlink() and not (tmp_path / "folder" / "m").is_symlink()
        assert wyrm.load(tmp_path / "folder" / "m").parameters["a"] == value


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o4755])
def test_a_file_keeps_its_mode(mode, tmp_path):
    """As it is saved to, by save or as training goes; a new one has what the process gives to new files."""
    model = Model("sgd")
    for mask in (0o077, 0o022):
        before = os.umask(mask)
        try:
            wyrm.save(tmp_path / f"{mask}", model.loss)
        finally:
            os.umask(before)
        assert (tmp_path / f"{mask}").stat().st_mode & 0o7777 == 0o666 & ~mask
    path = tmp_path / "m"
    wyrm.save(path, model.loss)
    path.chmod(mode)
    wyrm.save(path, model.loss)
    assert path.stat().st_mode & 0o7777 == mode
    model.fit(1, callbacks=[wyrm.Checkpoint(path)], backend="reference")
    assert path.stat().st_mode & 0o7777 == mode and wyrm.load(path).run["epoch"] == 1


def test_nothing_but_files_is_replaced(tmp_path):
    """Nor read, nor waited for; through a link neither."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    kinds = {"pipe": "pipe", "link": "pipe", "folder": "folder", "socket": "socket", "/dev/null": "device"}
    for name, kind in kinds.items():
        path = tmp_path / name
        before = path.stat()
        model = Model("sgd")
        for attempt in (
            lambda path=path, model=model: wyrm.save(path, model.loss),
            lambda path=path, model=model: model.fit(1, callbacks=[wyrm.Checkpoint(path)], backend="reference"),
            lambda path=path: wyrm.load(path),
            lambda path=path, model=model: model.fit(1, resume=path, backend="reference"),
        ):
            with pytest.raises(wyrm.CheckpointError, match=f"this is a {kind}"):
                attempt()
        assert os.path.samestat(before, path.stat()) and path.stat().st_mode == before.st_mode
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe", "socket"]


def test_paths(tmp_path, monkeypatch):
    """Also as bytes; of what is none, or leads nowhere, the error says so."""
    a = wyrm.ParameterNode(1.0, name="a")
    for path in (tmp_path / "m", str(tmp_path / "m"), os.fsencode(tmp_path / "m")):
        wyrm.save(path, [a], metadata={"path": str(path)})
        assert wyrm.load(path, [a]).metadata == {"path": str(path)}
    Model("sgd").fit(1, callbacks=[wyrm.Checkpoint(os.fsencode(tmp_path / "run{epoch}"))], backend="reference")
    assert len(Model("sgd").fit(1, resume=os.fsencode(tmp_path / "run1"), backend="reference")) == 1
    with pytest.raises(FileNotFoundError, match=r"no such folder.*make it first.*nowhere'"):
        wyrm.save(tmp_path / "nowhere" / "m", [a])
    with pytest.raises(NotADirectoryError):
        wyrm.save(tmp_path / "m" / "m", [a])
    for path, kind, pattern in (
        (3.5, wyrm.DTypeError, "expected a path, got 3.5"),
        ("", wyrm.OptionError, "path of a file"),
        ("a\0b", wyrm.OptionError, "path of a file"),
        (f"{tmp_path}/new/", wyrm.CheckpointError, "name of a folder"),
    ):
        with pytest.raises(kind, match=pattern):
            wyrm.save(path, [a])
    before = sorted(os.listdir(tmp_path))

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("wyrm.checkpoints.files.os.open", refuse)  # whoever runs this may be allowed everything
    with pytest.raises(PermissionError, match="Permission denied: a new file cannot be made in the folder.*/m'"):
        wyrm.save(tmp_path / "m", [a])
    assert sorted(os.listdir(tmp_path)) == before


def test_what_killed_processes_left_over_is_removed(tmp_path):
    """By the next save to the same place; not what somebody is still writing, nor what belongs to another file."""
    a = wyrm.ParameterNode(1.0, name="a")
    gone, written, others = (
        ".m.01234567.partial",
        ".m.89abcdef.partial",
        [".m.n.01234567.partial", ".m.partial", ".m.tmp", "m.partial"],
    )
    for name in (gone, written, *others):
        (tmp_path / name).write_bytes(b"half")
    with open(tmp_path / written, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        wyrm.save(tmp_path / "m", [a])
        assert sorted(os.listdir(tmp_path)) == sorted([written, *others, "m"])
    wyrm.save(tmp_path / "m", [a])
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "m"])


def test_files_are_safetensors(tmp_path, rng):
    """What the package safetensors makes of a file that Wyrm wrote: every shape and dtype, aligned."""
    arrays = {
        "ü": rng.normal(size=(3, 5)).astype(np.float32),
        "b": rng.normal(size=(2, 1)),
        "none": np.zeros((0, 4), np.float32),
    }
    write_file(tmp_path / "m", {**arrays, "n": np.arange(3)}, {"x": "ü"})
    found = load_file(tmp_path / "m")
    for name, array in {**arrays, "n": np.arange(3)}.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert struct.unpack("<Q", (tmp_path / "m").read_bytes()[:8])[0] % 8 == 0
    with pytest.raises(wyrm.OptionError, match="UTF-8"):
        write_file(tmp_path / "m", {"\ud800": np.zeros(1)}, {})


def test_saving_while_others_train(tmp_path, rng):
    """A file is whole also where the values change as it is written."""
    import threading

    table = wyrm.ParameterNode(rng.normal(size=(2000, 64)), name="t")
    done = threading.Event()

    def change():
        while not done.is_set():
            table.set_value(rng.normal(size=(2000, 64)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            wyrm.save(tmp_path / "m", [table])
            wyrm.load(tmp_path / "m")
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_kills():
    """Killed at any instant, training that checkpoints leaves a whole file; the full run is the script's."""
    report = kill(kills=8, seed=int(np.random.default_rng().integers(2**31)))
    assert report["kills"] == 8 and report["epochs"] > 0


def test_a_run_whose_checkpoints_have_no_place_does_not_begin(tmp_path):
    """The first epoch may take an hour."""
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    for path, kind in ((tmp_path / "none" / "run", FileNotFoundError), (tmp_path, wyrm.CheckpointError)):
        with pytest.raises(kind, match="folder"):
            wyrm.fit((w * x).square(), {x: [1.0]}, wyrm.optim.SGD(0.1, [w]), callbacks=[wyrm.Checkpoint(path)])
        assert w.value == 1
    # a folder named by the epoch may be made by another callback
    path = tmp_path / "{epoch}" / "run"
    callbacks = [lambda epoch: (tmp_path / str(epoch.number)).mkdir(), wyrm.Checkpoint(path)]
    wyrm.fit((w * x).square(), {x: [1.0]}, wyrm.optim.SGD(0.1, [w]), callbacks=callbacks, num_epochs=2)
    assert (tmp_path / "2" / "run").exists()
