"""Allocations, writes and threads that fail, some of each kind; ``tests/inject_failures.py`` lets every one of them fail."""

import shutil
import sys

import inject_failures
import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD
from wyrm.training import runners

#: Of how many allocations one fails: other ones on other backends.
STEPS = {"c_simd": 97, "numba": 199}
BACKENDS = [status.name for status in wyrm.backends() if status.name in STEPS]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library cannot be stood in front of")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("name", BACKENDS)
def test_what_fails_leaves_whole_steps_behind(name):
    """And training can go on, to the same bits."""
    found = inject_failures.inject(name, STEPS[name], capture_output=True)
    assert not found.returncode, found.stdout + found.stderr[-2000:]
    assert found.stdout.count(", 0 wrong, ") >= 11, found.stdout


@pytest.mark.parametrize("what", ["arrays of rows", "bags"])
def test_buffers_without_memory_stay_as_they_are(what, monkeypatch):
    """Whichever allocation fails: else native code would write to what is no longer there."""
    buffer = wyrm.memory.GradientBuffer((9, 3), "float32") if what == "arrays of rows" else wyrm.memory.BagBuffer(2, "float32")
    buffer.reserve(20)
    header, aligned = buffer.header.tolist(), wyrm.memory.aligned
    for last in range(2):
        calls = iter(range(9))

        def failing(*arguments, calls=calls, last=last, **options):
            if next(calls) > last:
                raise MemoryError
            return aligned(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr("wyrm.memory.aligned", failing)
            if what == "bags" and last:
                continue
            with pytest.raises(MemoryError):
                buffer.reserve(1000)
        assert buffer.header.tolist() == header
        arrays = (buffer.row_numbers, buffer.row_values) if what == "arrays of rows" else (buffer.indices, buffer.weights)
        assert [wyrm.memory.address(array) in header for array in arrays] == [True, True]


def test_a_schedule_that_raises_when_a_state_is_loaded_changes_nothing(backend):
    """Nor do the values that were put back before."""
    weight = wyrm.ParameterNode(np.ones((2, 2)))
    saved = SGD(lambda steps: np.full(len(steps), 0.5), [weight], momentum=0.5).state_dict()
    saved["steps"] = np.array(5000)

    def rates(steps):
        if steps[-1] > 5000:
            raise ValueError("no more")
        return np.full(len(steps), 0.25)

    optimizer = SGD(rates, [weight], momentum=0.5)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="no more"):
        optimizer.load_state_dict(saved)
    assert optimizer.steps == 0
    after = optimizer.state_dict()
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_losses_add_up_the_same_however_an_epoch_is_cut(backend, rng, monkeypatch):
    """Into calls, whose lengths depend on the clock."""
    x, y = rng.normal(size=(2, 500))
    losses = []
    for first in (1, 3, 500):
        monkeypatch.setattr(runners, "_FIRST_SLICE", first)
        weight, a, b = wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
        history = wyrm.fit((weight * a - b).square(), {a: x, b: y}, SGD(0.1, [weight]), seed=1, num_threads=1)
        losses.append(history.losses)
    assert losses[0] == losses[1] == losses[2]


def test_modules_of_a_backend_that_had_no_memory_are_imported_anew(registry, tmp_path, monkeypatch):
    """Of a package that was imported in part, Python forgets the part alone that failed."""
    package = tmp_path / "made_of_parts"
    package.mkdir()
    (package / "__init__.py").write_text("import made_of_parts.first\nimport made_of_parts.second\n")
    (package / "first.py").write_text(
        "import made_of_parts\nwhole = hasattr(made_of_parts, 'begun')\nmade_of_parts.begun = 1\n"
    )
    (package / "second.py").write_text("import os\nif 'SHORT' in os.environ: raise MemoryError\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def load():
        import made_of_parts

        assert made_of_parts.begun
        return wyrm.get_backend("reference").__class__()

    class Plugin:
        @staticmethod
        @wyrm.hookspecs.hookimpl
        def wyrm_backend():
            return wyrm.backend.Declaration(name="parts", load=load, contract=(wyrm.backend.CONTRACT_VERSION,) * 2)

    wyrm.plugins.register(Plugin(), "parts")
    monkeypatch.setenv("SHORT", "1")
    with pytest.raises(wyrm.BackendError, match="free some memory"):
        wyrm.get_backend("parts")
    monkeypatch.delenv("SHORT")
    assert wyrm.get_backend("parts").name == "parts"
    for name in [name for name in sys.modules if name.startswith("made_of_parts")]:
        monkeypatch.delitem(sys.modules, name)


def test_rows_that_are_brought_up_to_date_are_so_whole(rng):
    """Value, velocity and clock, though something comes between."""
    table, index = wyrm.ParameterNode(rng.normal(size=(9, 3))), wyrm.IndexInputNode()
    loss, optimizer = table.index(index).square().scalar_sum(), SGD(0.1, [table], momentum=0.5)
    for row in range(9):
        index.set_value(row)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    storage, shown = table.storage, table.value.copy()
    assert storage.behind().tolist() == list(range(8))
    came = iter([KeyboardInterrupt()])

    class Interrupted(np.ndarray):
        def __setitem__(self, place, value):
            for error in came:
                raise error
            super().__setitem__(place, value)

    storage._clock.last = storage._clock.last.view(Interrupted)
    with pytest.raises(KeyboardInterrupt):
        storage._settle(np.arange(5))
    assert set(storage.behind().tolist()).isdisjoint(range(5))
    np.testing.assert_array_equal(storage.value, shown)
    storage.settle()
    np.testing.assert_array_equal(storage.value, shown)
