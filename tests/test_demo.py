"""The demo: what it reads, what it generates, what it shows."""

import csv

import numpy as np
import pytest
from demo.__main__ import main
from demo.model import Factorization
from demo.ratings import RatingsError, generate_ratings, read_ratings
from linear_regression import regression

import wyrm


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "ratings.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reading(tmp_path):
    path = write(tmp_path, 'user_id,item_id,rating,timestamp\nanna,"a, b",3.5,1\n7,x,2,2\nanna,x,-1e0,3\n')
    ratings = read_ratings(path)
    assert (ratings.num_users, ratings.num_items, len(ratings)) == (2, 2, 3)
    np.testing.assert_array_equal(ratings.users, [0, 1, 0])
    np.testing.assert_array_equal(ratings.items, [0, 1, 1])
    np.testing.assert_array_equal(ratings.values, [3.5, 2, -1])


def test_reading_other_forms(tmp_path):
    path = write(tmp_path, "rating,item_id,user_id\r\n1,a,b\r\n\r\n2,c,d\r\n", "utf-8-sig")
    assert len(read_ratings(path)) == 2


HEADER = "user_id,item_id,rating\n"
BAD = {
    "empty": ("", "the file is empty; expected a header with user_id, item_id, rating"),
    "header": ("a,b,c\n1,2,3\n", "line 1: the header lacks user_id, item_id, rating; it is 'a,b,c'"),
    "columns": (HEADER + "1,2,3\n1,2\n", r"line 3: expected 3 columns \(user_id, item_id, rating\), got 2: '1,2'"),
    "number": (HEADER + "1,2,3\n1,2,good\n", "line 3, column rating: expected a number, got 'good'"),
    "nan": (HEADER + "1,2,nan\n", "line 2, column rating: expected a number, got 'nan'"),
    "id": (HEADER + ",2,3\n", "line 2, column user_id: expected an id, got nothing"),
    "quote": (HEADER + '"1,2,3\n', "line 2: unexpected end of data"),
    "one": (HEADER + "1,2,3\n", "at least two ratings.*got 1"),
    "none": (HEADER, "at least two ratings.*got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_cannot_be_used(tmp_path, case, capsys):
    """The error names the line, the column and the text; the command shows it without a traceback."""
    text, pattern = BAD[case]
    path = write(tmp_path, text)
    with pytest.raises(RatingsError, match=pattern) as caught:
        read_ratings(path)
    assert str(path) in str(caught.value)
    assert main(["--ratings", str(path), "--output", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"demo: {caught.value}\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_are_not_there_or_no_text(tmp_path):
    with pytest.raises(RatingsError, match="No such file"):
        read_ratings(tmp_path / "missing.csv")
    with pytest.raises(RatingsError, match="directory"):
        read_ratings(tmp_path)
    with pytest.raises(RatingsError, match="not a text file in UTF-8"):
        read_ratings(write(tmp_path, HEADER + "é,1,2\n", "latin-1"))


def test_an_unknown_backend(capsys):
    assert main(["--backend", "nope"]) == 2
    assert "there is no backend 'nope'" in capsys.readouterr().err


def test_generated_ratings():
    ratings = generate_ratings(5000, 100, 150)
    assert len(set(zip(ratings.users.tolist(), ratings.items.tolist(), strict=True))) == 5000
    assert ratings.best_rmse == pytest.approx(0.5, abs=0.02)
    training, held_out = ratings.split(1)
    assert (len(training), len(held_out)) == (4500, 500)
    pairs = {tuple(pair) for part in (training, held_out) for pair in zip(part.users, part.items, strict=True)}
    assert len(pairs) == 5000
    again, _ = ratings.split(1)
    np.testing.assert_array_equal(training.values, again.values)


def test_the_smallest_data(tmp_path):
    ratings = read_ratings(write(tmp_path, HEADER + "1,2,3\n1,3,4\n"))
    training, held_out = ratings.split(0)
    assert (len(training), len(held_out)) == (1, 1)


def test_the_model_learns(backend):
    """Towards the best possible error; the backends agree on the first epoch."""
    ratings = generate_ratings(3000, 60, 80)
    training, held_out = ratings.split(0)
    model = Factorization(training, 0)
    mean = held_out.rmse(np.full(len(held_out), training.values.mean()))
    wyrm.fit(model.loss, model.feed(training), model.optimizer, seed=0, backend=backend)
    first = model.predict(held_out, backend)
    other = Factorization(training, 0)
    wyrm.fit(other.loss, other.feed(training), other.optimizer, seed=0, backend="reference")
    np.testing.assert_allclose(first, other.predict(held_out, "reference"), atol=1e-4)
    if backend != "reference":
        wyrm.fit(model.loss, model.feed(training), model.optimizer, seed=0, num_epochs=100, backend=backend)
        assert held_out.rmse(model.predict(held_out, backend)) < 0.75 * mean


def test_the_regression(backend):
    assert regression(backend) == pytest.approx((3, 5), abs=1e-2)


@pytest.mark.slow
def test_the_command(tmp_path, capfd):
    """A table with a row for each backend and number of threads, a picture, and every epoch."""
    assert main(["--epochs", "2", "--seeds", "0", "--output", str(tmp_path / "out")]) == 0
    output = capfd.readouterr().out
    names = [status.name for status in wyrm.backends() if status.priority >= 0]
    for name in names:
        assert f"{name} " in output
    assert "best possible" in output
    assert "y = 3.000 x + 5.000" in output
    assert (tmp_path / "out" / "demo.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "out" / "demo.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * (len(names) - 1) + 1
    assert {row["backend"] for row in rows} == set(names)
    first = {row["backend"]: float(row["held_out_rmse"]) for row in rows if row["epoch"] == "1" and row["threads"] == "1"}
    assert max(first.values()) - min(first.values()) < 1e-4
