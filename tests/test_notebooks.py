"""What notebooks show: the progress bar, histories, and rates as they were given."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD, Adam, Group, schedules
from wyrm.training import progress


def fit(loss=None, **options):
    w = wyrm.ParameterNode(0.0)
    return wyrm.fit(loss or (lambda x: (w * x - 1.0).square()), {"x": np.ones(8)}, SGD(0.1, [w]), **options)


def test_the_bar_is_drawn_at_most_ten_times_a_second(monkeypatch, capsys):
    """By a clock that goes on by a millisecond whenever it is looked at, and epochs that are over at once."""
    now = itertools.count(0.0, 0.001)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    fit(num_epochs=600, progress=True)
    elapsed, drawn = next(now), capsys.readouterr().err.count("\r")
    assert elapsed > 1 and 10 * elapsed - 5 <= drawn <= 10 * elapsed + 4  # beside the beginning and the end


def test_the_bar_says_that_it_traces(monkeypatch, capsys):
    now = itertools.count(0.0, 1.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    w, seen = wyrm.ParameterNode(0.0), []

    def loss(x):
        seen.append(capsys.readouterr().err)
        return sum((w * each - 1.0).square() for each in x)

    chunks = [{"x": wyrm.Ragged.of([[1.0] * n] * 3)} for n in (1, 2)]
    wyrm.fit(loss, chunks, SGD(0.1, [w]), progress=True)
    assert len(seen) == 2 and all(text.rsplit("\r", 1)[-1].startswith("tracing") for text in seen)
    end = capsys.readouterr().err.rsplit("\r", 1)[-1]
    assert "tracing" not in end and "6.00" in end


@pytest.mark.parametrize("wanted", [True, False])
def test_an_error_while_it_traces(wanted, capsys):
    def loss(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(loss, progress=wanted)
    shown = capsys.readouterr().err
    assert shown.endswith("\n") if wanted else not shown


def test_histories_are_short():
    history = fit(num_epochs=3, num_threads=1)
    text = repr(history)
    assert len(text) < 120 and text.startswith("<History of 3 epochs on ") and f"loss {history.losses[-1]:.6g}" in text
    history.stopped = "enough"
    assert repr(history).endswith("; stopped: enough>")
    assert repr(wyrm.History("reference", 2, 0.0)) == "<History of 0 epochs on reference, sequential, 2 threads>"


def test_histories_as_tables():
    history = wyrm.History("reference", 1, 0.0)
    for number in range(1, 101):
        history.epochs.append(wyrm.Epoch(number, 1 / number, 10, 0.1, 0.1, {"<b>&": 0.5} if number == 100 else {}))
    history.stopped = "<script>"
    page = ElementTree.fromstring(f"<div>{history._repr_html_()}</div>")  # nothing of a name is read as a tag
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert rows[0] == ["epoch", "loss", "learning_rate", "examples", "skipped", "seconds", "examples_per_second", "<b>&"]
    assert len(rows) == 22 and rows[11] == ["… 80 epochs …"]
    assert rows[1][:3] == ["1", "1", "0.1"] and rows[-1] == ["100", "0.01", "0.1", "10", "0", "0.1", "100", "0.5"]
    assert "<script>" in "".join(page.find("p").itertext())
    assert ElementTree.fromstring(f"<div>{wyrm.History('reference', 1, 0.0)._repr_html_()}</div>") is not None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rates_are_as_they_were_given(dtype):
    w, x = wyrm.ParameterNode(0.0, dtype=dtype), wyrm.InputNode((1, 1), dtype=dtype)
    loss = (w * x - 1.0).square()
    optimizer = Adam(0.1, [Group([w], l2=0.0003)], eps=1e-7)
    assert optimizer.learning_rate == 0.1 and optimizer.groups[0].options["l2"] == 0.0003
    assert "learning_rate=0.1" in repr(optimizer) and "l2=0.0003" in repr(optimizer) and "eps=1e-07" in repr(optimizer)
    history = wyrm.fit(loss, {x: np.ones(4)}, optimizer)
    assert history[0].learning_rate == 0.1 and "learning_rate=0.1," in repr(history[0])
    assert optimizer.state_dict()["learning_rates"].tolist() == [0.1]
    optimizer.learning_rate = 0.0123456789
    assert optimizer.learning_rate == 0.0123456789 and "learning_rate=0.0123456789" in repr(optimizer)
    falling = SGD(schedules.step(0.3, 2, 0.1), [w])
    assert falling.learning_rate == 0.3
    for rate in (0.3, 0.3, 0.03):
        x.set_value(1.0)
        loss.forward()
        loss.backward(1.0)
        falling.step()
        assert falling.learning_rate == pytest.approx(rate, rel=1e-15)
