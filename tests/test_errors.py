"""Bad input: each case gets an error that names the node, what was expected and what came, and changes nothing."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


def raises(kind, *parts):
    """An error of this kind whose message holds all the parts."""
    pattern = "".join(f"(?=.*{part})" for part in parts)
    return pytest.raises(kind, match=f"(?s){pattern}")


@pytest.mark.parametrize("shape", [3, (1, 2, 3), (1,), (-1, 2), (1.5, 2), "ab", (True, 1), None])
def test_input_shape(shape):
    with raises(wyrm.ShapeError, "InputNode"):
        wyrm.InputNode(shape)


def test_set_value_of_the_wrong_shape_changes_nothing():
    x = wyrm.InputNode((2, 3), np.ones((2, 3)), name="features")
    for value in (np.ones((3, 2)), np.ones(3), 1.0, [[1, 2], [3, 4]]):
        with raises(wyrm.ShapeError, "'features'", r"\(2, 3\)"):
            x.set_value(value)
    np.testing.assert_array_equal(x.value, np.ones((2, 3)))


@pytest.mark.parametrize("value", ["1", 1j, None, [[object()]], [[1, 2], [3]], b"1", np.datetime64("2020-01-01")])
def test_set_value_of_what_is_not_real_changes_nothing(value):
    x = wyrm.InputNode((1, 1), 4.0, name="x")
    w = wyrm.ParameterNode(5.0, name="w")
    for node in (x, w):
        with raises(wyrm.DTypeError, node.name, "real numbers"):
            node.set_value(value)
    assert (x.value, w.value) == (4, 5)


@pytest.mark.parametrize("value", [True, 3, np.float32(3), np.int8(3), [[3]], np.array([[3]], np.uint8), np.array(3.0)])
def test_real_values_of_any_kind_are_cast(value):
    x = wyrm.InputNode((1, 1), 0.0)
    x.set_value(value)
    assert x.value == float(np.asarray(value).reshape(())) and x.value.dtype == np.float32


@pytest.mark.parametrize("value", [1.5, np.nan, "1", 1j, True, [1, 2], None])
def test_index_value_of_the_wrong_kind_changes_nothing(value):
    index = wyrm.IndexInputNode(1, 2, name="user")
    with raises((wyrm.DTypeError, wyrm.ShapeError), "'user'"):
        index.set_value(value)
    assert index.value == 2


@pytest.mark.parametrize(
    "value",
    [[1, -1, 0], [1, 5, 0], [1, 2**63, 0], [1.5, 1, 2], [True, True, False], ["1", 1, 2], [None] * 3, [1, 2], [[1], 2, 3]],
)
def test_lists_of_indices_of_the_wrong_kind_change_nothing(value):
    """Whatever is in a list is checked, also against tables that were looked up before it was set, and after."""
    table, index = wyrm.ParameterNode(np.ones((5, 2)), name="users"), wyrm.IndexInputNode(3, [0, 4, 1], name="user")
    rows = table.index(index)
    with raises((wyrm.DTypeError, wyrm.ShapeError, wyrm.OutOfRangeError), "'user'"):
        index.set_value(value)
    assert index.value.ravel().tolist() == [0, 4, 1]
    index.set_value([3, np.int32(2), 3])
    assert index.value.dtype == np.int64 and rows.value.shape == (3, 2)
    with raises(wyrm.OutOfRangeError, "'user'", "3 at position 0", "below 3", "few"):
        wyrm.ParameterNode(np.ones((3, 2)), name="few").index(index)
    index.set_value(np.array([0, 4, 2]))
    with raises(wyrm.OutOfRangeError, "4 at position 1", "below 4"):
        wyrm.ParameterNode(np.ones((4, 2))).index(index)


def test_index_values_that_are_whole_are_taken():
    index = wyrm.IndexInputNode(2)
    for value in ([1, 2], [[1], [2]], np.array([1.0, 2.0]), np.array([1, 2], np.uint8)):
        index.set_value(value)
        np.testing.assert_array_equal(index.value, [[1], [2]])


@pytest.mark.parametrize("value", [5, -1, 2**40, [[7]]])
def test_index_outside_the_table(value):
    table, index = wyrm.ParameterNode(np.zeros((5, 2)), name="users"), wyrm.IndexInputNode(name="user")
    table.index(index)
    with raises(wyrm.OutOfRangeError, "'user'", "below 5", "'users'", str(np.max(value))):
        index.set_value(value)
    assert not index.is_set


def test_index_outside_a_smaller_table_that_comes_later():
    large, small = wyrm.ParameterNode(np.zeros((50, 2))), wyrm.ParameterNode(np.zeros((5, 2)), name="small")
    index = wyrm.IndexInputNode(3, [0, 40, 1])
    large.index(index)
    with raises(wyrm.OutOfRangeError, "below 5", "'small'", "40 at position 1"):
        small.index(index)
    index.set_value([0, 4, 1])
    small.index(index)
    with raises(wyrm.OutOfRangeError, "below 5"):
        index.set_value([0, 5, 1])


def test_native_code_checks_indices_too(backend):
    """Even where the checks in front of it were passed by."""
    table, index = wyrm.ParameterNode(np.ones((5, 2))), wyrm.IndexInputNode(2, [0, 1])
    rows = table.index(index)
    rows.forward()
    index._array[1] = 1_000_000
    with raises(wyrm.OutOfRangeError, "position 1", "1000000", "5 rows"):
        rows.forward()
    index._array[1] = -3
    with raises(wyrm.OutOfRangeError, "-3"):
        rows.forward()
    index._array[1] = 4
    rows.forward()


def test_index_needs_an_index_input():
    table = wyrm.ParameterNode(np.zeros((5, 2)))
    for other in (3, wyrm.InputNode((1, 1)), None):
        with raises(wyrm.DTypeError, "IndexInputNode"):
            table.index(other)


@pytest.mark.parametrize("count", [-1, 1.5, "1", None, True])
def test_index_count(count):
    with raises(wyrm.ShapeError, "IndexInputNode"):
        wyrm.IndexInputNode(count)


def test_shapes_that_do_not_fit_name_the_nodes():
    a, b = wyrm.ParameterNode(np.zeros((2, 3)), name="a"), wyrm.ParameterNode(np.zeros((3, 2)), name="b")
    for operation in (lambda: a + b, lambda: a - b, lambda: a * b, lambda: a.vector_dot(b), lambda: a.dot(a)):
        with raises(wyrm.ShapeError, "'a'", r"\(2, 3\)"):
            operation()
    with raises(wyrm.ShapeError, "dot", "columns of the left operand, 3", "rows of the right one, 2", r"\.t\(\)"):
        a.dot(a)


def test_failed_ops_leave_nothing_behind():
    from wyrm.frontend.structure import STORE

    a, b = wyrm.ParameterNode(np.zeros((2, 3))), wyrm.ParameterNode(np.zeros((3, 2)))
    before = dict(STORE)
    for _ in range(2):
        with pytest.raises(wyrm.ShapeError):
            a + b
    assert before == STORE


def test_dtypes_that_meet():
    a, b = wyrm.ParameterNode(1.0, name="a"), wyrm.ParameterNode(1.0, name="b", dtype="float64")
    with raises(wyrm.DTypeError, "float32", "float64", "'a'", "'b'", "dtype="):
        a + b


@pytest.mark.parametrize("dtype", ["float16", "int32", "complex64", "object"])
def test_other_dtypes(dtype):
    with raises((wyrm.DTypeError), dtype):
        wyrm.ParameterNode(1.0, dtype=dtype)
    with raises((wyrm.DTypeError), dtype):
        wyrm.InputNode((1, 1), dtype=dtype)


@pytest.mark.parametrize("value", [[1.0, 2.0], np.zeros((1, 2, 3))])
def test_parameter_of_the_wrong_shape(value):
    with raises(wyrm.ShapeError, "matrix"):
        wyrm.ParameterNode(value)


@pytest.mark.parametrize("value", ["a", 1j, None, [[1], [2, 3]], [["x"]]])
def test_parameter_of_the_wrong_kind(value):
    with raises(wyrm.DTypeError, "real numbers"):
        wyrm.ParameterNode(value)


def test_parameter_set_value_of_the_wrong_shape_changes_nothing():
    w = wyrm.ParameterNode(np.ones((2, 2)), name="w")
    with raises(wyrm.ShapeError, "'w'", r"\(2, 2\)", r"\(1, 2\)"):
        w.set_value(np.zeros((1, 2)))
    np.testing.assert_array_equal(w.value, np.ones((2, 2)))


def test_a_parameters_value_cannot_be_written_by_accident():
    w = wyrm.ParameterNode(np.ones((2, 2)))
    with pytest.raises(ValueError, match="read-only"):
        w.value[0, 0] = 5


def test_adopting_an_array():
    array = np.ones((4, 2), np.float32)
    w = wyrm.ParameterNode(array, copy=False)
    array[0, 0] = 7
    assert w.value[0, 0] == 7
    for wrong in (array.astype(np.float64), array.T, array[:, :1], array.tolist()):
        with raises(wyrm.OptionError, "copy=False", "float32"):
            wyrm.ParameterNode(wrong, copy=False)


def test_an_input_without_value(backend):
    x, y = wyrm.InputNode((1, 1), name="x"), wyrm.InputNode((2, 2), name="y")
    total = x * y
    with raises(wyrm.MissingValueError, "'x'", "set_value"):
        total.forward()
    x.set_value(2.0)
    with raises(wyrm.MissingValueError, "'y'", "set_value"):
        total.forward()
    with raises(wyrm.MissingValueError, "'y'"):
        y.value  # noqa: B018
    y.set_value(np.ones((2, 2)))
    total.forward()
    np.testing.assert_array_equal(total.value, np.full((2, 2), 2))


def test_an_input_without_value_in_a_graph_that_was_taken_over(backend):
    x = wyrm.InputNode((1, 1), 1.0)
    missing = wyrm.InputNode((1, 1), name="missing")
    (x * 2.0).forward()
    late = wyrm.InputNode((1, 1), 1.0)
    joined = missing * late
    with raises(wyrm.MissingValueError, "'missing'"):
        joined.forward()
    missing.set_value(3.0)
    assert joined.value == 3


@pytest.mark.parametrize("weight", ["1", None, 1j])
def test_backward_weight(backend, weight):
    w = wyrm.ParameterNode(1.0)
    y = w.square()
    y.forward()
    with raises(wyrm.DTypeError, "backward", "number"):
        y.backward(weight)
    assert not w.gradient.to_dense().any()


@pytest.mark.parametrize("value", ["a", 1j, np.zeros((1, 1, 1)), None, object()])
def test_constants_of_the_wrong_kind(value):
    w = wyrm.ParameterNode(np.ones((2, 2)), name="w")
    with raises((wyrm.DTypeError, wyrm.ShapeError), "add", "'w'"):
        w + value
    with raises((wyrm.DTypeError, wyrm.ShapeError), "multiply", "'w'"):
        value * w


class TestOptimizer:
    def test_no_parameters(self):
        with raises(wyrm.OptionError, "SGD", "none"):
            SGD(0.1, [])

    def test_a_parameter_twice(self):
        w = wyrm.ParameterNode(1.0, name="w")
        with raises(wyrm.OptionError, "SGD", "'w'", "twice"):
            SGD(0.1, [w, w])

    def test_something_else(self):
        with raises(wyrm.DTypeError, "SGD", "ParameterNode"):
            SGD(0.1, [wyrm.InputNode((1, 1))])

    def test_dtypes(self):
        with raises(wyrm.DTypeError, "float32", "float64"):
            SGD(0.1, [wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0, dtype="float64")])

    @pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0.1", None, True])
    def test_options(self, value):
        w = wyrm.ParameterNode(1.0)
        with raises((wyrm.OptionError, wyrm.DTypeError), "SGD", "learning_rate"):
            SGD(value, [w])
        with raises((wyrm.OptionError, wyrm.DTypeError), "SGD", "l2"):
            SGD(0.1, [w], l2=value)
        optimizer = SGD(0.5, [w])
        with raises((wyrm.OptionError, wyrm.DTypeError), "SGD", "learning_rate"):
            optimizer.learning_rate = value
        assert optimizer.learning_rate == 0.5


def test_errors_are_of_the_builtin_kinds_too():
    assert issubclass(wyrm.ShapeError, ValueError)
    assert issubclass(wyrm.DTypeError, TypeError)
    assert issubclass(wyrm.OutOfRangeError, IndexError)
    assert issubclass(wyrm.FeedError, ValueError)
    assert issubclass(wyrm.UnknownBackendError, LookupError)
    assert all(issubclass(getattr(wyrm, n), wyrm.WyrmError) for n in wyrm.__all__ if n.endswith("Error"))
