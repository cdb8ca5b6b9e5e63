"""Gradients that are set: whatever rows they name, and whatever becomes of them later, steps write within the table."""

import copy
import pickle

import numpy as np
import pytest

import wyrm
from wyrm import RowSparseGradient
from wyrm.optim import SGD, Adagrad

ROWS, COLUMNS = 8, 3
SHAPE = ROWS, COLUMNS


def values(count):
    return np.ones((count, COLUMNS))


#: Rows that are none of a table, or not in order. The order of unsigned numbers cannot be told by their differences.
WRONG = {
    **{
        f"{name} of {dtype}": np.array(rows, dtype)
        for dtype in ("uint8", "uint16", "uint32", "uint64", "int8", "int64", "float32", "float64", ">i4", ">u8")
        for name, rows in {
            "unsorted rows": [5, 2, 7],
            "a large row first": [100, 2, 7],
            "a large row in between": [1, 100, 7],
            "repeated rows": [2, 2, 7],
            "too large rows": [2, 5, ROWS],
        }.items()
    },
    **{f"negative rows of {dtype}": np.array([-1, 2, 7], dtype) for dtype in ("int8", "int64", "float64")},
    "beyond 64 bits": np.array([0, 2, 2**63 + 1], np.uint64),
    "far too large floats": np.array([0, 2, 1e300]),
    "fractions": np.array([0.5, 2.0, 7.0]),
    "NaN": np.array([0.0, 2.0, np.nan]),
    "infinite": np.array([0.0, 2.0, np.inf]),
    "booleans": np.array([False, True, True]),
    "a matrix": np.array([[0, 2, 7]]),
    "objects": np.array([0, 2, None]),
    "text": np.array(["0", "2", "7"]),
    "too few": np.array([0, 2]),
    "a number": np.array(3),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_rows_that_are_none_are_refused(wrong):
    with pytest.raises(wyrm.WyrmError, match="row-sparse gradient"):
        RowSparseGradient(WRONG[wrong], values(3), SHAPE)
    table = wyrm.ParameterNode(np.zeros(SHAPE), name="table")
    gathered = RowSparseGradient(np.array([4]), values(1), SHAPE)
    table.set_gradient(gathered)
    smuggled = RowSparseGradient(np.array([0, 2, 7]), values(3), SHAPE)
    object.__setattr__(smuggled, "rows", WRONG[wrong])
    with pytest.raises(wyrm.WyrmError, match="table"):
        table.set_gradient(smuggled)
    assert table.gradient.rows.tolist() == [4]  # as it was
    if wrong.startswith(("unsorted rows", "repeated rows")):
        assert RowSparseGradient.merged(WRONG[wrong], values(3), SHAPE).to_dense().sum() == 3 * COLUMNS
    else:
        with pytest.raises(wyrm.WyrmError, match="row-sparse gradient"):
            RowSparseGradient.merged(WRONG[wrong], values(3), SHAPE)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint64", "float32", "float64", ">i8", None])
def test_rows_of_any_dtype_are_taken(backend, dtype):
    rows = [0, 2, 7] if dtype is None else np.array([0, 2, 7], dtype)
    gradient = RowSparseGradient(rows, values(3), SHAPE)
    assert gradient.rows.dtype == np.int64
    table = wyrm.ParameterNode(np.zeros(SHAPE))
    table.set_gradient(gradient)
    SGD(1.0, [table]).step()
    expected = np.zeros(SHAPE)
    expected[[0, 2, 7]] = -1
    np.testing.assert_array_equal(table.value, expected)


def test_wrong_values_and_shapes_are_refused():
    rows = np.array([0, 2])
    wrong = [
        (rows, np.ones((2, COLUMNS + 1)), SHAPE),
        (rows, np.ones(2), SHAPE),
        (rows, np.ones((2, COLUMNS), complex), SHAPE),
        (rows, [["a"] * COLUMNS] * 2, SHAPE),
        (rows, values(2), (ROWS + 0.5, COLUMNS)),
        (rows, values(2), (ROWS,)),
        (rows, values(2), 8),
        (rows, values(2), (-ROWS, COLUMNS)),
        (rows, values(2), (2, COLUMNS)),
    ]
    for arguments in wrong:
        with pytest.raises(wyrm.WyrmError, match="row-sparse gradient"):
            RowSparseGradient(*arguments)
        with pytest.raises(wyrm.WyrmError, match="row-sparse gradient"):
            RowSparseGradient.merged(*arguments)
    table = wyrm.ParameterNode(np.zeros(SHAPE), name="table")
    with pytest.raises(wyrm.ShapeError, match="table"):  # of a larger table
        table.set_gradient(RowSparseGradient([0, 9], values(2), (10, COLUMNS)))


def test_rows_cannot_be_changed():
    """Neither those that were given, which are copied, nor those of the gradient; and those that can be are looked at again."""
    given = np.array([0, 2, 7])
    gradient = RowSparseGradient(given, values(3), SHAPE)
    given[:] = 10**9
    assert gradient.rows.tolist() == [0, 2, 7]
    with pytest.raises(ValueError, match="read-only"):
        gradient.rows[0] = 10**9
    with pytest.raises(ValueError, match="WRITEABLE"):
        gradient.rows.flags.writeable = True
    table = wyrm.ParameterNode(np.zeros(SHAPE), name="table")
    table.set_gradient(gradient)
    gradient.rows.shape, gradient.rows.dtype = (3, 1), np.int8
    with pytest.raises(wyrm.WyrmError, match="table"):
        table.set_gradient(gradient)
    assert table.gradient.rows.tolist() == [0, 2, 7]
    for copied in (copy.deepcopy(gradient), pickle.loads(pickle.dumps(gradient)), copy.copy(gradient)):
        with pytest.raises(wyrm.WyrmError, match="table"):
            table.set_gradient(copied)
    unpickled = pickle.loads(pickle.dumps(RowSparseGradient(np.array([0, 2, 7]), values(3), SHAPE)))
    if unpickled.rows.flags.writeable:
        unpickled.rows[2] = 10**9
        with pytest.raises(wyrm.OutOfRangeError, match="table"):
            table.set_gradient(unpickled)


@pytest.mark.parametrize("make", [lambda nodes: SGD(1.0, nodes, momentum=0.9), lambda nodes: Adagrad(1.0, nodes)])
def test_what_was_set_is_a_copy(backend, make):
    """What is changed in between, in a gradient that was set or one that was read, is not what the step takes."""
    table = wyrm.ParameterNode(np.zeros(SHAPE), dtype="float64")
    optimizer = make([table])
    for kind in ("rows", "dense"):
        given = values(3)
        gradient = RowSparseGradient([0, 2, 7], given, SHAPE) if kind == "rows" else wyrm.DenseGradient(np.ones(SHAPE))
        before = table.value.copy()
        table.set_gradient(gradient)
        read = table.gradient
        for changed in (gradient, read):
            changed.values[...] = 1e9
            changed.values.shape = (-1,)
            changed.values.resize((1,), refcheck=False) if changed.values.flags.owndata else None
        optimizer.step()
        moved = np.flatnonzero((table.value != before).any(axis=1)).tolist()
        assert moved == ([0, 2, 7] if kind == "rows" else list(range(ROWS)))
        assert np.abs(table.value).max() < 10


class Lying(RowSparseGradient):
    """Says something else each time that it is asked."""

    asked = 0

    def __getattribute__(self, name):
        if name == "rows":
            Lying.asked += 1
            return np.array([0, 1]) if Lying.asked < 2 else np.array([10**9, 10**10])
        return super().__getattribute__(name)


def test_a_gradient_is_asked_once(backend):
    table, Lying.asked = wyrm.ParameterNode(np.zeros(SHAPE)), 0
    gradient = Lying(np.array([0, 1]), values(2), SHAPE)
    Lying.asked = 0
    table.set_gradient(gradient)
    assert table.gradient.rows.tolist() == [0, 1]
    SGD(1.0, [table]).step()
    assert table.value.sum() == -2 * COLUMNS
