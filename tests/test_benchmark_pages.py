"""The pages of the benchmark, and what is measured in processes of their own; no time is asserted."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wyrm
from benchmarks import interactions, recommenders, starting
from benchmarks.large_table import competitors, measure_memory
from benchmarks.measuring import Settings, agrees, measure
from benchmarks.pages import with_figures, write_pages
from benchmarks.results import Entry, Instructions, Memory, Point, Results, Start
from benchmarks.tables import TABLES
from benchmarks.workloads import WORKLOADS

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "benchmarks" / "results.json"
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")


@pytest.fixture
def results():
    """Of every kind something, with figures that are easy to find."""
    entries = [
        Entry("w1", "C by hand", seconds=[2e-9, 4e-9]),
        Entry("w1", "c_simd, fit", seconds=[3e-9, 6e-9]),
        Entry("w1", "somebody else's", peer=True, seconds=[7e-9, 7e-9]),
        Entry("w5", "C by hand", seconds=[2e-9]),
        Entry("w5", "C by hand", threads=2, seconds=[1e-9]),
        Entry("w5", "c_simd, fit", seconds=[4e-9]),
        Entry("w5", "c_simd, fit, hogwild", threads=2, seconds=[3.2e-9]),
        Entry("w8", left_out="nobody is here"),
        Entry("large", "C by hand", seconds=[5e-8]),
    ]
    return Results(
        {"processor": "a processor", "family": "1", "cores": 2, "instruction_sets": [], "backends": {}, "system": "Linux"}
        | {"compiler": "", "versions": {"python": "3"}, "time": "now"},
        {"rounds": 2, "seconds": 0.1, "ratings": False},
        entries,
        [Point("rows", rows, Entry("rows", "c_simd, fit", seconds=[1e-6 / rows])) for rows in (1, 4)],
        [Instructions("w1", "c_simd", "avx2", 42.0)],
        [Start("", "import", "", [0.1, 0.05]), Start("c_simd", "w1", "fit", [0.003, 0.002, 0.001])],
        [Memory("c_simd", "SGD", 2, 1000, 1041)],
        ["Sweeps: no time"],
    )


def test_the_page_shows_every_kind_of_figure(results, tmp_path):
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    write_pages(results, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "| W1, µs per step | C by hand: 0.003 | 0.0045 (1.5 ×) | somebody else's: 0.007 (2.62 ×) | 42 |" in text
    assert "| C by hand | 500 | 1,000 (2 ×) |" in text
    assert "| c_simd, fit, hogwild |  | 312 (1.25 ×) |" in text
    assert "| c_simd, SGD | 2 | 1.00e-06 | 1.04e-06 | 1.041 |" in text
    assert "| c_simd, fit, the first time | 3 |" in text and "| c_simd, fit, again | 1.5 |" in text
    assert "| c_simd, fit | 1 | 0.25 |" in text
    assert "* W8: nobody is here" in text and "* Sweeps: no time" in text


def test_figures_take_the_place_of_those_before(results):
    page = "# Page\n\n<!-- figures: rows -->\n\nold\n\n<!-- end -->\n\ntext 0.25\n\n<!-- figures: large -->\n<!-- end -->\n"
    filled = with_figures(page, results)
    assert "old" not in filled and "text 0.25" in filled and "| 1.041 |" in filled
    assert with_figures(filled, results) == filled


def test_performance_asks_for_tables_that_there_are():
    names = re.findall(r"<!-- figures: (.*?) -->", (DOCS / "performance.md").read_text())
    assert len(names) > 5 and set(names) <= set(TABLES)


def test_programs_of_peers_need_nothing_of_wyrm():
    """What they import of the benchmark has to work in an environment that has NumPy alone."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['wyrm', 'pluggy', 'numba', 'cffi']))\n"
        "import benchmarks.data, benchmarks.peers.protocol"
    )
    subprocess.run([sys.executable, "-c", code], cwd=DOCS.parent, check=True)


@pytest.mark.slow
@pytest.mark.skipif(not RESULTS.exists(), reason="no results are published")
def test_published_pages_are_those_of_the_published_results(tmp_path):
    for name in ("benchmarks.md", "performance.md"):
        (tmp_path / name).write_text((DOCS / name).read_text())
    write_pages(Results.load(RESULTS), tmp_path / "benchmarks.md")
    for name in ("benchmarks.md", "performance.md"):
        assert (tmp_path / name).read_text() == (DOCS / name).read_text(), "run make bench-pages"


@pytest.mark.slow
@linux
def test_starting_is_measured_in_processes_of_their_own():
    backend = wyrm.get_backend().name
    found = {(start.backend, start.what, start.way): start for start in starting.measure_starts(["w1"], [backend])}
    assert set(found) == {("", "import", ""), (backend, "import", ""), (backend, "w1", "fit"), (backend, "w1", "from Python")}
    assert all(len(start.seconds) > 2 and min(start.seconds) > 0 for start in found.values())


@pytest.mark.slow
@linux
def test_memory_of_a_table_is_measured():
    memory = measure_memory(300_000, [wyrm.get_backend().name])
    ratios = {(one.optimizer, one.threads): one.ratio for one in memory}
    assert 0.9 < ratios["SGD", 1] < 1.5 and 0.9 < ratios["SGD", 2] < 1.5
    assert 1.9 < ratios["Adagrad", 1] < 2.5 and ratios["row-wise Adagrad", 1] < 1.5


def test_all_train_the_same_large_table():
    makers = competitors(5000, ["reference", wyrm.get_backend().name])
    sums = []
    for make in makers[1:]:
        competitor = make()
        sums += [competitor.first_losses(), competitor.first_losses()]
    assert len(sums) == 6 and all(agrees(found, sums[0], 2e-5) for found in sums), sums


def test_what_fails_in_its_turn_is_left_out_and_others_go_on():
    class Fails(recommenders.Competitor):
        def first_losses(self):
            return None

        def run(self, start, stop):
            if self.name == "late" and start > 3:
                raise ZeroDivisionError("at last")

    workload = WORKLOADS["w3"]
    entries = measure(
        workload, [lambda: Fails(workload, "late"), lambda: Fails(workload, "well")], Settings(50, 1e-6), lambda text: None
    )
    assert entries[0].left_out == "late: ZeroDivisionError: at last" and not entries[0].seconds
    assert not entries[1].left_out and len(entries[1].seconds) == 50


def test_interactions_are_read_in_the_order_of_time(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating,timestamp\nb,x,5,30\na,y,5,20\nb,y,5,10\na,z,5,40\n")
    assert interactions._read(path).sequences() == [[1, 2], [1, 0]]
    generated = interactions._generated()
    assert generated.num_items == 1682 and len(generated.sequences()) == 943 and 90_000 < len(generated.users) < 120_000


def test_a_recommender_tells_tracing_from_training(monkeypatch):
    few = interactions.Interactions(np.repeat(np.arange(4, dtype=np.int32), 9), np.arange(36, dtype=np.int32) % 12)
    monkeypatch.setattr(recommenders, "interactions", lambda: few)
    workload = WORKLOADS["ewma-hinge"]
    entries = measure(
        workload, [lambda: recommenders.Recommend(workload, wyrm.get_backend().name)], Settings(2, 0.001), lambda text: None
    )
    assert not entries[0].left_out and entries[0].sum_of_losses > 0
    assert all(0 < ready < whole for ready, whole in zip(entries[0].getting_ready, entries[0].seconds, strict=True))
    whole, trained = Results({}, {}, entries).of(workload.key)
    assert trained.name.endswith("tracing aside") and trained.microseconds < whole.microseconds
