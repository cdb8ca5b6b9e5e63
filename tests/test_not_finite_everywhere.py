"""A gradient that is infinite behind a finite loss ends every way to train before anything changes, for any optimizer.

The oracle is training on the examples before: values and states have its bits, or, if threads share parameters, are finite.
"""

import numpy as np
import pytest

import wyrm
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW

ROWS, STEEP = 8, 5
#: By name: which example comes first in the step that is not made, and the options; chunks, if it is a stream.
WAYS = {
    "one by one": (5, {}),
    "a batch": (4, {"batch_size": 2}),
    "rows": (4, {"rows": 2}),
    "rows in a batch": (4, {"rows": 2, "batch_size": 2}),
    "a stream": (5, {"chunks": 4}),
    "a stream of batches": (4, {"chunks": 4, "batch_size": 2}),
    "synchronized": (4, {"batch_size": 4, "schedule": "synchronized", "num_threads": 2}),
    "conflict_free": (None, {"schedule": "conflict_free", "num_threads": 2, "shuffle": True}),
    "hogwild": (None, {"schedule": "hogwild", "num_threads": 2}),
}
OPTIMIZERS = {
    "sgd": SGD,
    "momentum": lambda rate, nodes: SGD(rate, nodes, momentum=0.9, weight_decay=0.01),
    "clipped": lambda rate, nodes: SGD(rate, nodes, clip_norm=1.0),
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "ftrl": FTRL,
}
#: Every way with two or three optimizers, and every optimizer with two or three ways, of one thread and of two.
PAIRS = [(w, o) for n, w in enumerate(WAYS) for m, o in enumerate(OPTIMIZERS) if (m - n) % len(OPTIMIZERS) in (0, 3)]


def trained(way, make, dtype, count, check="all"):
    """What is trained on the first examples, what stays behind, and the error."""
    options = dict(WAYS[way][1])
    table = wyrm.ParameterNode(np.linspace(1, 2, 2 * ROWS).reshape(ROWS, 2), name="table", dtype=dtype)
    scale = wyrm.ParameterNode(0.5, name="scale", dtype=dtype)
    alone = options.get("schedule") == "conflict_free"  # for which every parameter is looked up
    parameters = [table] if alone else [table, scale]

    def model(index, x):
        root = (table.index(index).sum(axis=1) * x).abs().sqrt()
        return ((root if alone else root * scale) - 1.0).square()

    rows = np.arange(count)
    feed = {"index": rows, "x": wyrm.Dense((rows != STEEP).astype(dtype)[:, None])}
    if chunk := options.pop("chunks", 0):
        parts = [rows[begin : begin + chunk] for begin in range(0, count, chunk)]
        feed = [{"index": part, "x": wyrm.Dense((part != STEEP).astype(dtype)[:, None])} for part in parts]
    optimizer, error = make(0.01, parameters), None
    try:
        with np.errstate(all="ignore"):
            wyrm.fit(model, feed, optimizer, check=check, **{"shuffle": False, "num_threads": 1, "seed": 1, **options})
    except wyrm.NotFiniteError as found:
        error = found
    assert not any(p.gradient.to_dense().any() for p in parameters)
    return [p.value for p in parameters], optimizer.state_dict(), error


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("way", "optimizer"), PAIRS)
def test_nothing_changes(backend, way, optimizer, dtype):
    first, options = WAYS[way]
    if options.get("num_threads", 1) > 1 and wyrm.get_backend().name == "reference":
        pytest.skip("one thread")
    make = OPTIMIZERS[optimizer]
    values, state, error = trained(way, make, dtype, ROWS)
    assert error is not None
    assert "sqrt" in error.node
    assert all(np.isfinite(value).all() for value in values)
    assert all(np.isfinite(array).all() for array in state.values())
    if optimizer not in ("momentum", "adam", "adamw"):  # of which rows move that are not looked up
        np.testing.assert_array_equal(values[0][STEEP], np.linspace(1, 2, 2 * ROWS).reshape(ROWS, 2).astype(dtype)[STEEP])
    if first is not None:
        expected, before, none = trained(way, make, dtype, first)
        assert none is None
        for value, other in zip(values, expected, strict=True):
            np.testing.assert_array_equal(value, other)
        assert state.keys() == before.keys()
        for name, array in state.items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("way", WAYS)
def test_the_loss_alone_is_looked_at_on_request(backend, way):
    if WAYS[way][1].get("num_threads", 1) > 1 and wyrm.get_backend().name == "reference":
        pytest.skip("one thread")
    values, _, error = trained(way, SGD, "float32", 6, check="loss")
    assert error is None
    assert not np.isfinite(values[0]).all()
