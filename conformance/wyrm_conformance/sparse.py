"""Row-sparse gradients: the rows touched, the rows not touched, and nothing in between."""

from __future__ import annotations

import tracemalloc

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.memory_use import resident_bytes

WIDTHS = (1, 3, 8, 16, 17, 33, 70)


def lookup(context: Context, table: wyrm.ParameterNode, indices: Array, weights: Array) -> wyrm.Node:
    """``sum(table[indices] * weights)``, run forward."""
    loss = (table.index(wyrm.IndexInputNode(len(indices), indices)) * weights).scalar_sum()
    loss.forward(backend=context.backend)
    return loss


@check("sparse/rows", "sparse", "the gradient of a look-up holds the rows touched, sorted, and their gradients")
def check_rows(context: Context) -> None:
    """Distinct rows in random order."""
    for width in WIDTHS:
        table = wyrm.ParameterNode(context.rng.uniform(-1, 1, (40, width)))
        indices = context.rng.permutation(40)[:7]
        weights = context.rng.uniform(-1, 1, (7, width)).astype(np.float32)
        lookup(context, table, indices, weights).backward(1.0)
        gradient = table.gradient
        assert isinstance(gradient, wyrm.RowSparseGradient)
        context.compare("rows", gradient.rows, np.sort(indices), 0)
        context.compare("values", gradient.values, weights[np.argsort(indices)], 1e-6)


@check("sparse/duplicates", "sparse", "a row looked up several times gathers the sum, and is updated once")
def check_duplicates(context: Context) -> None:
    """Few rows, many indices, several passes; then a step with l2."""
    for width in WIDTHS:
        value = context.rng.uniform(-1, 1, (5, width)).astype(np.float32)
        table, expected = wyrm.ParameterNode(value), np.zeros((5, width))
        for _ in range(2):
            indices = context.rng.integers(0, 4, 23)
            weights = context.rng.uniform(-1, 1, (23, width)).astype(np.float32)
            lookup(context, table, indices, weights).backward(1.0)
            np.add.at(expected, indices, weights)
        context.compare("gradient", table.gradient.to_dense(), expected, 1e-5)
        SGD(0.5, [table], l2=0.25).step()
        updated = value - 0.5 * (expected + 0.25 * value)
        context.compare("value after a step", table.value[:4], updated[:4], 1e-5)
        context.identical("the row not touched", table.value[4:], value[4:])


@check("sparse/untouched rows", "sparse", "rows that a step does not touch keep their bits, whatever they hold")
def check_untouched(context: Context) -> None:
    """Rows of NaN, infinity and -0.0 beside the rows that are trained, by steps and by the runner."""
    for width in WIDTHS:
        value = context.rng.uniform(-1, 1, (30, width)).astype(np.float32)
        value[1], value[2], value[3] = np.nan, np.inf, -0.0
        table, index = wyrm.ParameterNode(value), wyrm.IndexInputNode(2)
        loss = table.index(index).square().scalar_sum()
        optimizer = SGD(0.01, [table], l2=0.1)
        for pair in ([10, 20], [20, 29], [29, 29]):
            index.set_value(pair)
            loss.forward(backend=context.backend)
            loss.backward(1.0)
            optimizer.step()
        wyrm.fit(loss, {index: [[10, 20], [29, 10]]}, optimizer, backend=context.backend)
        others = np.setdiff1d(np.arange(30), [10, 20, 29])
        context.identical("untouched rows", table.value[others], value[others])
        context.require("touched rows have moved", bool(np.all(table.value[[10, 20, 29]] != value[[10, 20, 29]])))


@check("sparse/empty", "sparse", "an index input of no indices touches nothing")
def check_empty(context: Context) -> None:
    """Forward, backward, a step and a run without a single row."""
    value = context.rng.uniform(-1, 1, (4, 3)).astype(np.float32)
    table, index = wyrm.ParameterNode(value), wyrm.IndexInputNode(0, [])
    rows = table.index(index)
    loss = rows.square().scalar_sum()
    loss.forward(backend=context.backend)
    loss.backward(1.0)
    optimizer = SGD(0.1, [table], l2=1.0)
    context.require("no rows", rows.value.shape == (0, 3))
    context.compare("loss", loss.value, np.zeros((1, 1)), 0)
    context.compare("gradient", table.gradient.to_dense(), np.zeros((4, 3)), 0)
    optimizer.step()
    wyrm.fit(loss, {index: np.zeros((5, 0), np.int64)}, optimizer, backend=context.backend)
    context.identical("the table", table.value, value)


@check("sparse/equals dense", "sparse", "looking rows up trains as multiplying with one-hot rows does")
def check_equals_dense(context: Context) -> None:
    """The same model in both ways over many steps."""
    for dtype in context.dtypes:
        start, targets = context.rng.uniform(-1, 1, (6, 9)), context.rng.uniform(-1, 1, (30, 9))
        indices = context.rng.integers(0, 6, 30)
        tables = []
        for sparse in (True, False):
            table, target = wyrm.ParameterNode(start, dtype=dtype), wyrm.InputNode((1, 9), dtype=dtype)
            if sparse:
                row_number = wyrm.IndexInputNode()
                row = table.index(row_number)
            else:
                one_hot = wyrm.InputNode((1, 6), dtype=dtype)
                row = one_hot.dot(table)
            loss = (row - target).square().scalar_sum()
            optimizer = SGD(0.1, [table])
            for i, values in zip(indices, targets, strict=True):
                if sparse:
                    row_number.set_value(i)
                else:
                    one_hot.set_value(np.eye(6)[i : i + 1])
                target.set_value(values.reshape(1, 9))
                loss.forward(backend=context.backend)
                loss.backward(1.0)
                optimizer.step()
            tables.append(table.value.copy())
        context.compare(f"tables in {dtype}", tables[0], tables[1], 1e-12 if dtype == "float64" else 1e-5)


@check("sparse/mixed with dense", "sparse", "a parameter used densely and by look-up loses neither part")
def check_mixed(context: Context) -> None:
    """In one graph, and by two heads in both orders."""
    value = context.rng.uniform(-1, 1, (5, 9)).astype(np.float32)
    indices, weights = np.array([4, 0, 4]), context.rng.uniform(-1, 1, (3, 9)).astype(np.float32)
    expected = 2 * value.astype(np.float64)
    np.add.at(expected, indices, weights)
    table = wyrm.ParameterNode(value)
    joint = lookup(context, table, indices, weights) + table.square().scalar_sum()
    joint.forward(backend=context.backend)
    joint.backward(1.0)
    context.compare("gradient in one graph", table.gradient.to_dense(), expected, 1e-5)
    heads = [lookup(context, table, indices, weights), table.square().scalar_sum()]
    for order in (heads, heads[::-1]):
        table.zero_gradient()
        for head in order:
            head.forward(backend=context.backend)
            head.backward(1.0)
        context.compare("gradient by two heads", table.gradient.to_dense(), expected, 1e-5)
    SGD(0.5, [table]).step()
    context.compare("value after a step", table.value, value - 0.5 * expected, 1e-5)


@check("sparse/memory", "sparse", "memory follows the rows touched, never the size of the table")
def check_memory(context: Context) -> None:
    """A table of a million rows, looked up, stepped and trained: what Python allocates, and what the process takes up."""
    found = []
    for rows in (10, 1_000_000, 1_000_000):  # the small one first: what is made once is not counted
        table = wyrm.ParameterNode(np.zeros((rows, 8), np.float32), copy=False)
        index, bag = wyrm.IndexInputNode(2, [3, 5]), wyrm.BagInputNode(1, [[1, 1, 9]])
        loss = table.index(index).square().scalar_sum() + table.index_sum(bag).square().scalar_sum()
        optimizer = SGD(0.1, [table], l2=0.1)
        resident = resident_bytes()
        tracemalloc.start()
        loss.forward(backend=context.backend)
        loss.backward(1.0)
        optimizer.step()
        feed = {index: [[1, 2], [3, 4]], bag: [[1], [2, 3]]}
        wyrm.fit(loss, feed, optimizer, num_threads=1, backend=context.backend)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found.append((peak, resident_bytes() - resident))
    peak, grown = (min(found[1][n], found[2][n]) for n in range(2))  # a table of the interpreter's may grow beside one
    context.require(f"a step on a table of 32 million bytes allocated {peak} bytes", peak < 1_000_000)
    context.require(f"the process grew by {grown} bytes", grown < 8_000_000)


@check("sparse/bags", "sparse", "bags pool rows by weight, empty ones give zero, and each row gathers its share", at_least=500)
def check_bags(context: Context) -> None:
    """Sums and means with weights, duplicates and empty bags; then steps by fit, with bags of many lengths."""
    for dtype in context.dtypes:
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        for width in WIDTHS:
            value = context.rng.uniform(-1, 1, (9, width)).astype(dtype)
            bags = [context.rng.integers(0, 9, n) for n in (3, 0, 40, 1)]
            weights = [context.rng.uniform(0.5, 2, len(bag)) for bag in bags]
            offsets = np.concatenate([[0], np.cumsum([len(bag) for bag in bags])])
            node = wyrm.BagInputNode(4, wyrm.Bags(np.concatenate(bags), offsets, np.concatenate(weights)))
            upstream = context.rng.uniform(-1, 1, (4, width))
            for mean in (False, True):
                shares = [w / w.sum() if mean and len(w) else w for w in weights]
                pooled, slope = np.zeros((4, width)), np.zeros((9, width))
                for r, (bag, share) in enumerate(zip(bags, shares, strict=True)):
                    pooled[r] = share @ value[bag].astype(np.float64)
                    np.add.at(slope, bag, share[:, None] * upstream[r])
                table = wyrm.ParameterNode(value, dtype=dtype)
                rows = table.index_mean(node) if mean else table.index_sum(node)
                loss = (rows * upstream).scalar_sum()
                loss.forward(backend=context.backend)
                loss.backward(1.0)
                context.case("pooled rows of bags", table=value, upstream=upstream)
                context.compare(f"rows pooled in {dtype}, width {width}", rows.value, pooled, tolerance)
                context.compare("their gradient", table.gradient.to_dense(), slope, tolerance)
            table, one = wyrm.ParameterNode(value, dtype=dtype), wyrm.BagInputNode(1)
            wyrm.fit(
                table.index_sum(one).scalar_sum(),
                {one: [list(bag) for bag in bags]},
                SGD(0.5, [table]),
                shuffle=False,
                num_threads=1,
                backend=context.backend,
            )
            counts = np.bincount(np.concatenate(bags), minlength=9)[:, None]
            context.compare("the table after fit", table.value, value - 0.5 * counts, tolerance)
            current = table.value.astype(np.float64)
            for weight_dtype in ("float32", "float64"):
                flat, mixed = np.concatenate(weights).astype(weight_dtype), context.rng.permutation(4)
                parts = np.split(flat.astype(np.float64), offsets[1:-1])
                pooled = np.stack([part @ current[bag] for bag, part in zip(bags, parts, strict=True)])
                fed = wyrm.Bags(np.concatenate(bags), offsets, flat).take(mixed)
                found = wyrm.evaluate(table.index_sum(one), {one: fed}, backend=context.backend)
                context.compare(f"bags of a feed, weights in {weight_dtype}", found[:, 0], pooled[mixed], tolerance)
