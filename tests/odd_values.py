"""Values for each kind of input, the plain, the odd and the wrong, and what is computed of them."""

import numpy as np

import wyrm


class Whole(int):
    """A whole number of another type."""


class Listed(list):
    """A list of another type."""


def table(rows=5):
    return wyrm.ParameterNode(np.arange(1.0, rows + 1).reshape(rows, 1))


#: Values of all kinds: the plain, the odd and the wrong.
NUMBERS = (
    *(2.0, 2, np.float64(2.5), np.float32(0.5), np.float16(2), True, np.True_, Whole(3), [[4.0]], np.array(5), np.array([[6]])),
    *("7", None, 10**400, -(10**400), 2**70, 1j, [1.0, 2.0], float("nan"), np.inf, {}, np.int8(3)),
)
INDICES = (
    *(0, 4, 5, -1, 2**63, -(2**70), True, np.True_, np.int64(3), np.int32(2), np.uint8(1), np.int64(-1), np.int64(9)),
    *(Whole(2), 1.0, "1", None, [2], [[3]], np.array([4]), np.array([5])),
)
SEVERAL = (
    *([0, 0, 4], [4, 4, 4], [0, 1], [0, 1, 2, 3], [], [0, 1, 5], [0, 1, -1], [0, 1, 2**64], [0, 1, True], [True, 1, 1]),
    *([0, 1, 2.0], [0, 1, None], [0, 1, Whole(2)], (3, 2, 1), Listed([1, 1, 1]), np.array([2, 2, 2]), [[1, 2, 3]]),
    *([np.int64(1), np.int64(2), 3], 1, np.array([2, 2, 9]), [[1], [2], [3]]),
)
BAGS = (
    *([], [4], [0] * 40, [1] * 300, [[2, 2]], [[]], [5], [0, -1], [2**64], [True], [1, True], [1, 2.0], ["a"], (1, 2)),
    *(
        Listed([3]),
        [[1], [2]],
        [[5]],
        [np.int64(2)],
        np.array([3, 3]),
        np.array([3, 9]),
        wyrm.Bags.from_lists([[1, 4]]),
        3,
        None,
    ),
    *(wyrm.Bags([1, 2], [0, 2], [0.5, 2.0]), [3, 3], [Whole(1)], [[1, 2], 3]),
)
MATRICES = (
    *(np.full((2, 3), 2, kind) for kind in ("float32", "float64", ">f4", "int8", "int64", "bool", "complex64", "U1", object)),
    *(np.ones(6, "float32"), np.ones((3, 2), "float32"), np.ones((1, 1), "float32"), np.ones((0, 3), "float32"), 1.0, None),
    *(
        np.ones((3, 2), "float32").T,
        np.ones((4, 6), "float32")[::2, ::2],
        np.ma.ones((2, 3), "float32"),
        [[1, 2, 3], [4, 5, 6]],
    ),
    *(np.full((2, 3), np.nan, "float32"), np.full((2, 3), np.inf, "float32"), [[1, 2, 3], [4, 5, 6]]),
)
#: For each kind of input: how it is made, what is computed of it, and a value to begin with.
KINDS = {
    "number": (lambda: wyrm.InputNode((1, 1)), lambda x: x * 1.0, 1.0, NUMBERS),
    "matrix": (
        lambda: wyrm.InputNode((2, 3)),
        lambda x: (x * [[1, 2, 3], [4, 5, 6]]).scalar_sum(),
        np.ones((2, 3), "float32"),
        MATRICES,
    ),
    "index": (lambda: wyrm.IndexInputNode(), lambda x: table().index(x), 1, INDICES),
    "indices": (lambda: wyrm.IndexInputNode(3), lambda x: table().index(x).scalar_sum(), [1, 2, 3], SEVERAL),
    "bag": (lambda: wyrm.BagInputNode(), lambda x: table().index_sum(x), [1, 2], BAGS),
}
