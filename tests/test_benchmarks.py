"""The machinery of the benchmarks, on tiny sizes: no time is asserted."""

import json
import re
import shutil
from itertools import pairwise

import pytest

import wyrm
from benchmarks import by_fit, c_loops, examples, from_python
from benchmarks.__main__ import main, run
from benchmarks.by_hand import ByHand
from benchmarks.instructions import own_cost
from benchmarks.measuring import Settings, agrees, measure
from benchmarks.pages import write_pages
from benchmarks.results import Entry, Results
from benchmarks.tables import digits
from benchmarks.workloads import WORKLOADS

TINY = Settings(rounds=2, seconds=0.002)
compiled = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def results():
    """Of one workload, by all that take part in it."""
    return run(["w1"], ["reference"], TINY)


@compiled
def test_all_compute_the_same_sum_of_first_losses(results):
    entries = results.of("w1")
    assert {"C by hand, -ffast-math", "C by hand", "reference, fit", "reference, from Python"} <= {e.name for e in entries}
    for entry in entries:
        assert agrees(entry.sum_of_losses, 109.023, 2e-5), entry
        assert len(entry.seconds) == TINY.rounds and min(entry.seconds) > 0
    assert not results.wrong


@pytest.mark.slow
@compiled
@pytest.mark.parametrize("key", ["w2", "w3", "w4", "w6", "w7", "w8"])
def test_wyrm_and_c_do_the_same_by_every_way(key):
    """On the default backend; the conformance suite holds the others to it."""
    workload, names = WORKLOADS[key], [wyrm.get_backend().name]
    makers = [
        *c_loops.competitors(workload, [1]),
        *by_fit.competitors(workload, names, [1]),
        *from_python.competitors(workload, names),
    ]
    sums = [make().first_losses() for make in makers]
    assert len(sums) > 2
    assert all(agrees(found, workload.checksum or sums[0], 2e-5) for found in sums), sums


def test_results_survive_as_json_and_make_a_page(results, tmp_path):
    results.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["machine"]["cores"] >= 1
    again = Results.load(tmp_path / "results.json")
    assert again == results
    write_pages(again, tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert results.machine["processor"] in text
    assert "## W1: linear regression" in text and "reference, fit" in text
    assert (tmp_path / "page" / "throughput.svg").read_text().startswith("<?xml")


def test_what_computes_something_else_is_left_out_and_said(tmp_path):
    def half(parameters, x, y, start, stop):
        return 54.5

    workload = WORKLOADS["w1"]
    entries = measure(workload, [lambda: ByHand(workload, "half", half)], TINY, lambda text: None)
    assert entries[0].wrong and not entries[0].seconds
    assert "54.5" in entries[0].left_out and "109.023" in entries[0].left_out
    wrong = Results({}, {}, entries)
    assert wrong.wrong and not wrong.of("w1")


def test_a_turn_covers_the_examples_in_order():
    seen = []

    def note(parameters, x, y, start, stop):
        seen.append((start, stop))
        return 109.023

    workload = WORKLOADS["w1"]
    measure(workload, [lambda: ByHand(workload, "note", note)], Settings(3, 0.0001), lambda text: None)
    covered = [part for part in seen[1:] if part != (0, workload.checked)]
    assert all(0 <= start < stop <= workload.epoch for start, stop in covered)
    assert all(after[0] in (before[1], 0) for before, after in pairwise(covered))


def test_ratios_are_taken_within_each_round():
    slow, fast = Entry("w1", "slow", seconds=[2.0, 30.0, 4.0]), Entry("w1", "fast", seconds=[1.0, 10.0, 1.0])
    assert slow.ratio(fast) == 3.0
    assert slow.microseconds == 4e6 and slow.spread == (2e6, 30e6)


def test_digits():
    assert [digits(x) for x in (0.0012345, 0.12345, 12.345, 1234.5, 1234567.0)] == [
        "0.00123",
        "0.123",
        "12.3",
        "1,230",
        "1,230,000",
    ]


def test_own_cost_counts_a_library_alone():
    profile = "\n".join(
        [
            "events: Ir",
            "ob=(1) /lib/python",
            "fn=(1) main",
            "12 100",
            "cob=(2) /lib/wyrm_c_simd/_native.so",
            "cfn=(2) run",
            "calls=1 0",
            "+3 5000",
            "ob=(2)",
            "fn=(2)",
            "* 40",
            "+1 2",
            "totals: 142",
        ]
    )
    assert own_cost(profile, "wyrm_c_simd") == 42


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "w1 w99"])
    assert "w99" in capsys.readouterr().err


def test_examples_are_timed_on_one_thread_and_two(capsys):
    examples.main(["--rounds", "1", "--seconds", "0.001", "--only", "BPR"])
    (line,) = capsys.readouterr().out.splitlines()
    assert re.search(r"factorization, BPR +\d+ epochs, +\d+\.\d\d s on one thread; two are \d+\.\d\d times as fast", line)
