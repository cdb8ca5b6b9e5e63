"""Sparse matrices as bags: what is wrong with them is refused by the node's name, before SciPy reads beside their memory."""

import numpy as np
import pytest
from scipy import sparse

import wyrm

TABLE = wyrm.ParameterNode(np.arange(12.0).reshape(6, 2), name="table")


def refused(matrix, pattern):
    bag = wyrm.BagInputNode(matrix.shape[0], name="words")
    pooled = TABLE.index_sum(bag)
    for act in (
        lambda: wyrm.evaluate(pooled, {bag: matrix}, backend="reference"),
        lambda: bag.set_value(matrix),
    ):
        with pytest.raises((wyrm.DTypeError, wyrm.ShapeError), match=rf"'words'.*{pattern}"):
            act()
    with pytest.raises((wyrm.DTypeError, wyrm.ShapeError), match=rf"'words'.*{pattern}"):
        wyrm.evaluate(lambda words: TABLE.index_sum(words), {"words": matrix}, backend="reference")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("dtype", [object, "S5", "U5", "M8[D]", "c16"])
def test_elements_that_are_no_numbers(form, dtype):
    matrix = sparse.random(4, 6, 0.6, form, random_state=1)
    matrix.data = np.array(np.ones(matrix.data.shape), float if dtype is object else dtype)
    if dtype is object:
        matrix.data = matrix.data.astype(object)
        matrix.data.reshape(-1)[0] = None
    refused(matrix, "")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
def test_weights_that_are_nan(form):
    matrix = sparse.random(4, 6, 0.6, form, random_state=1)
    matrix.data.reshape(-1)[0] = np.nan
    refused(matrix, "weight .* is NaN")


@pytest.mark.parametrize("form", ["csr", "csc", "bsr"])
@pytest.mark.parametrize(("place", "start"), [(1, 10**6), (1, -1), (0, 1), (-1, 10**6), (-1, -1)])
def test_starts_that_fit_no_matrix(form, place, start):
    matrix = sparse.random(4, 6, 0.6, form, random_state=1)
    matrix.indptr[place] = start
    refused(matrix, "offset|CSR|number of values|weights")
    empty = sparse.csr_matrix((4, 6)).T.asformat("csc") if form == "csc" else sparse.csr_matrix((6, 4)).asformat(form)
    empty.indptr[1] = 1
    refused(empty, "offset|CSR")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr"])
@pytest.mark.parametrize("index", [6, -1, 2**31 - 1])
def test_indices_outside(form, index):
    matrix = sparse.random(4, 6, 0.6, form, random_state=1)
    (matrix.col if form == "coo" else matrix.indices)[0] = index
    bag = wyrm.BagInputNode(4, name="words")
    with pytest.raises((wyrm.DTypeError, wyrm.OutOfRangeError), match="'words'"):
        wyrm.evaluate(TABLE.index_sum(bag), {bag: matrix}, backend="reference")
    if form == "coo":
        matrix = sparse.random(4, 6, 0.6, form, random_state=1)
        matrix.row[0] = index
        refused(matrix, "CSR")


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "lil", "dok", "dia"])
def test_what_is_right_is_read(form):
    matrix = sparse.random(4, 6, 0.6, "csr", random_state=1)
    bag = wyrm.BagInputNode(4)
    found = wyrm.evaluate(TABLE.index_sum(bag), {bag: matrix.asformat(form)}, backend="reference")[0]
    np.testing.assert_allclose(found, matrix @ TABLE.value, rtol=1e-5)
