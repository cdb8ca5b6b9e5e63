"""Gradients that are not finite behind a loss that is: nothing changes, whoever makes the step."""

import gc

import numpy as np
import pytest

import wyrm
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW

OPTIMIZERS = [SGD, Adagrad, Adam, AdamW, FTRL, lambda rate, nodes: SGD(rate, nodes, momentum=0.9, clip_norm=1.0)]
STEEP = 3  # the example whose gradient is not finite


def steep(rows, dtype="float32"):
    """A loss that is finite everywhere, and whose derivative is infinite for one example; parameters; feed."""
    table = wyrm.ParameterNode(np.linspace(1, 2, 2 * rows).reshape(rows, 2), name="table", dtype=dtype)
    scale = wyrm.ParameterNode(0.5, name="scale", dtype=dtype)
    index, x = wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)
    root = (table.index(index).scalar_sum() * x).abs().sqrt()
    feed = {index: np.arange(rows), x: np.where(np.arange(rows) == STEEP, 0.0, 1.0)}
    return (root * scale - 1.0).square(), [table, scale], feed


def kept(parameters, optimizer):
    return [p.value.copy() for p in parameters], {name: np.array(a) for name, a in optimizer.state_dict().items()}


def unchanged(before, parameters, optimizer):
    values, state = kept(parameters, optimizer)
    for a, b in zip(before[0], values, strict=True):
        np.testing.assert_array_equal(a, b)
    for name, array in state.items():
        np.testing.assert_array_equal(array, before[1][name], err_msg=name)


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "adagrad", "adam", "adamw", "ftrl", "clipped"])
def test_fit_ends_before_the_update(backend, make):
    loss, parameters, feed = steep(6)
    optimizer = make(0.01, parameters)
    first = {node: values[:STEEP] for node, values in feed.items()}
    wyrm.fit(loss, first, optimizer, shuffle=False, num_threads=1)
    before = kept(parameters, optimizer)
    rest = {node: values[STEEP:] for node, values in feed.items()}
    with pytest.raises(wyrm.NotFiniteError, match="the gradient of example 0 is NaN or infinite; its update was not") as info:
        wyrm.fit(loss, rest, optimizer, shuffle=False, num_threads=1)
    unchanged(before, parameters, optimizer)
    assert info.value.node.startswith("sqrt") and info.value.example == 0
    assert "began at sqrt (1, 1)" in str(info.value) and "the value there is 0" in str(info.value)
    assert "reaches ParameterNode 'table'" in str(info.value) and "'scale'" not in str(info.value)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options", [{"batch_size": 2}, {"batch_size": 100}, {"rows": 2}, {"rows": 2, "batch_size": 2}], ids=str
)
def test_batches(backend, options, dtype):
    """The batch with the example is not applied, and its gradients do not stay behind."""
    loss, parameters, feed = steep(6, dtype)
    index, x = feed
    table, scale = parameters
    if "rows" in options:

        def model(index, x):
            return ((table.index(index).sum(axis=1) * x).abs().sqrt() * scale - 1.0).square()

        loss, feed = model, {"index": feed[index], "x": wyrm.Dense(feed[x])}
    optimizer = SGD(0.01, parameters)
    with pytest.raises(wyrm.NotFiniteError, match="sqrt"):
        wyrm.fit(loss, feed, optimizer, shuffle=False, num_threads=1, **options)
    found = [p.value.copy() for p in parameters]
    assert all(np.isfinite(value).all() for value in found)
    np.testing.assert_array_equal(found[0][2:], np.linspace(1, 2, 12).reshape(6, 2).astype(dtype)[2:])
    assert all(not p.gradient.to_dense().any() for p in parameters)


@pytest.mark.parametrize(("schedule", "options"), [("hogwild", {}), ("synchronized", {"batch_size": 4}), ("conflict_free", {})])
def test_schedules_on_two_threads(backend, schedule, options):
    if wyrm.get_backend().name == "reference":
        pytest.skip("one thread")
    rows = 40
    table = wyrm.ParameterNode(np.ones((rows, 2)), name="table")
    index, x = wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = ((table.index(index).scalar_sum() * x).abs().sqrt() - 1.0).square()
    feed = {index: np.arange(rows), x: (np.arange(rows) != STEEP).astype(float)}
    options = {"schedule": schedule, "num_threads": 2, "shuffle": schedule == "conflict_free", **options}
    with pytest.raises(wyrm.NotFiniteError, match=f"example {STEEP} is NaN or infinite"):
        wyrm.fit(loss, feed, SGD(0.01, [table]), num_epochs=3, **options)
    assert np.isfinite(table.value).all()
    np.testing.assert_array_equal(table.value[STEEP], [1, 1])


def test_the_loss_alone(backend):
    loss, parameters, feed = steep(6)
    with np.errstate(all="ignore"):
        wyrm.fit(loss, feed, SGD(0.01, parameters), shuffle=False, num_threads=1, check="loss")
    assert not np.isfinite(parameters[0].value).all()
    with pytest.raises(wyrm.OptionError, match="'all' or 'loss', got 'none'"):
        wyrm.fit(loss, feed, SGD(0.01, parameters), check="none")


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "adagrad", "adam", "adamw", "ftrl", "clipped"])
def test_own_steps_are_refused(backend, make):
    """By the row list of a table, by a matrix, and by both; the gradient stays until it is set to zero."""
    loss, parameters, feed = steep(6)
    optimizer = make(0.01, parameters)
    for example in (0, STEEP, 1):
        before = kept(parameters, optimizer)
        for node, values in feed.items():
            node.set_value(values[example])
        loss.forward()
        loss.backward(1.0)
        if example != STEEP:
            optimizer.step()
            continue
        for _ in range(2):
            with pytest.raises(wyrm.NotFiniteError, match="the gradient of ParameterNode 'table' is NaN or infinite") as info:
                optimizer.step()
            assert info.value.node == "sqrt (1, 1)"
            assert "began at sqrt (1, 1), whose derivative by abs" in str(info.value)
            unchanged(before, parameters, optimizer)
        optimizer.zero_gradient()
    assert optimizer.steps == 2 and all(np.isfinite(p.value).all() for p in parameters)


def test_where_the_gradient_of_an_own_step_began(backend):
    """With bags, dropout and rows of tables; and if it is not to be found, nothing is made up."""
    table, w = wyrm.ParameterNode(np.ones((5, 2)), name="table"), wyrm.ParameterNode(np.ones((2, 2)), name="w")
    bag, x = wyrm.BagInputNode(2), wyrm.InputNode((2, 2))
    loss = ((table.index_mean(bag) * x).dropout(0.5).dot(w) - 1.0).abs().ln().maximum(-5.0).scalar_sum()
    loss = loss + (table.index_sum(bag) * x).ln().maximum(-9.0).scalar_sum() * 1e-38
    optimizer = SGD(0.1, loss.parameters())
    bag.set_value([[0, 1], [2]])
    x.set_value([[1.0, 1.0], [1.0, 1e-39]])
    table.set_value(np.full((5, 2), 1e20))
    loss.forward()
    loss.backward(1.0)
    optimizer.step()
    product = (w * 1e30 * 1e30).scalar_sum()
    product.forward()
    product.backward(1.0)
    with pytest.raises(wyrm.NotFiniteError, match=r"'w' is NaN.*began at multiply \(2, 2\), whose derivative") as info:
        optimizer.step()
    assert info.value.node == "multiply (2, 2)"
    del product
    optimizer.zero_gradient()
    loss.backward(np.inf)
    with pytest.raises(wyrm.NotFiniteError, match="or for a weight of backward that is not") as info:
        optimizer.step()
    assert info.value.node.startswith("ParameterNode")


@pytest.mark.parametrize(("dtype", "size"), [("float32", 1e30), ("float64", 1e200)])
def test_gradients_whose_squares_overflow_are_applied(backend, dtype, size):
    w = wyrm.ParameterNode([[1.0, 2.0]], dtype=dtype)
    loss = (w * size).scalar_sum()
    for _ in range(2):
        loss.forward()
        loss.backward(1.0)
        optimizer = SGD(1 / size, [w])
        optimizer.step()
    np.testing.assert_allclose(w.value, [[-1.0, 0.0]], atol=1e-6)
    assert optimizer.steps == 1


@pytest.mark.parametrize("how", ["product", "row", "matrix", "deep"])
def test_overflow_of_a_gradient(backend, how):
    """The loss is 0, its derivative beyond what the dtype holds; no factor is infinite by itself."""
    w, x, index = wyrm.ParameterNode(np.zeros((2, 2)), name="w"), wyrm.InputNode((1, 2)), wyrm.IndexInputNode()
    loss = {
        "product": lambda: (w * 1e30 * 1e30).scalar_sum() * x.scalar_sum(),
        "row": lambda: (w.index(index) * 1e30 * 1e30 * x).scalar_sum(),
        "matrix": lambda: (x.dot(w) * 1e30).dot(np.full((2, 1), 1e30)).scalar_sum(),
        "deep": lambda: ((w * 1e20).tanh() * 1e19).scalar_sum() * x.scalar_sum(),
    }[how]()
    feed = {node: values for node, values in ((x, np.ones((3, 2))), (index, [0, 1, 0])) if node in set(loss._ancestors())}
    with pytest.raises(wyrm.NotFiniteError, match="gradient"):
        wyrm.fit(loss, feed, SGD(0.01, [w]), num_threads=1)
    assert not w.value.any()


@pytest.mark.parametrize("term", [0, 1])
def test_overflow_of_one_of_two_terms_that_are_added_up_in_place(backend, term):
    """Each has a factor of its own, of which one is so large that its product with a constant overflows."""
    w, x, index = wyrm.ParameterNode(np.zeros((2, 2)), name="w"), wyrm.InputNode((1, 2)), wyrm.IndexInputNode(2)
    rows = w.index(index)
    factors = [(x * (80.0 if n == term else 1.0)).exp() for n in range(2)]
    loss = ((rows * 1e10).sum(axis=0) * factors[0]).scalar_sum() + ((rows * 1e10) * factors[1]).scalar_sum()
    with pytest.raises(wyrm.NotFiniteError, match="gradient"):
        wyrm.fit(loss, {x: np.ones((2, 2)), index: [[0, 1], [1, 0]]}, SGD(0.01, [w]), num_threads=1)
    assert not w.value.any()


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        ("auto", {}),
        ("auto", {"batch_size": 3}),
        ("auto", {"rows": 2}),
        ("hogwild", {"num_threads": 2}),
        ("synchronized", {"batch_size": 4, "num_threads": 2}),
        ("conflict_free", {"num_threads": 2, "shuffle": True}),
    ],
    ids=str,
)
def test_large_gradients_that_are_finite_are_applied(backend, schedule, options):
    """Looks are scaled, and overflow for some examples; gradients do not: the same steps as without a look."""
    if options.get("num_threads", 1) > 1 and wyrm.get_backend().name == "reference":
        pytest.skip("one thread")
    rows, found = 12, []
    alone = schedule == "conflict_free"  # for which every parameter is looked up
    x = np.ones((rows, 4))
    x[[3, 7]] = 1e8 if alone else 1e16
    feed = {"index": np.arange(rows), "x": wyrm.Dense(x)}
    how = {"schedule": schedule, "num_threads": 1, "shuffle": False, "seed": 1, "num_epochs": 2, **options}
    for check in ("all", "loss"):
        table, weights = wyrm.ParameterNode(np.ones((rows, 4))), wyrm.ParameterNode(np.full((4, 4), 0.5))

        def model(index, x, table=table, weights=weights):
            hidden = table.index(index) * x
            return (hidden * x * x).sum(axis=1) if alone else hidden.dot(weights).relu().dot(weights).sum(axis=1)

        optimizer = SGD(1e-26, [table]) if alone else SGD(1e-18, [table, weights])
        history = wyrm.fit(model, feed, optimizer, check=check, **how)
        found.append((table.value, weights.value, history.losses, optimizer.steps, history[-1].examples))
    for with_looks, without in zip(*found, strict=True):
        np.testing.assert_allclose(with_looks, without, rtol=0.02 if schedule == "hogwild" else 1e-6)
    assert (found[0][0][[3, 7]] < 0.99).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_chosen_has_no_gradient(backend, dtype):
    """Behind where, and what chooses like it: roots, logarithms, quotients, powers and products outside of their domain."""
    x = wyrm.ParameterNode([[0.0, 4.0, -1.0]], dtype=dtype)
    chosen = np.array([[0.0, 1.0, 0.0]])
    zero = wyrm.InputNode((1, 3), [[0.0, 1.0, 0.0]], dtype=dtype)
    for make, slope in (
        (lambda: x.sqrt(), 0.25),
        (lambda: x.ln(), 0.25),
        (lambda: 1.0 / x, -1 / 16),
        (lambda: x / zero, 1.0),
        (lambda: x**0.5, 0.25),
        (lambda: (x * (1.0 / zero)).sqrt().tanh(), (1 - np.tanh(2) ** 2) / 4),
        (lambda: ((4.0 - x) * 1000.0).exp(), -1000.0),
    ):
        x.zero_gradient()
        loss = wyrm.where(chosen, make(), 0.0).scalar_sum()
        loss.forward()
        loss.backward(1.0)
        np.testing.assert_allclose(x.gradient.to_dense(), slope * chosen, rtol=1e-5)
    x.zero_gradient()
    loss = x.square().sqrt().maximum(0.5).scalar_sum()
    loss.forward()
    loss.backward(1.0)
    np.testing.assert_allclose(x.gradient.to_dense(), [[0, 1, -1]], rtol=1e-5)


def test_where_it_begins_inside_a_composition(backend):
    """Of what is in between there are no nodes: the op is named, and the node that it is part of."""

    @wyrm.composition
    def layer(x, w):
        return [(x * w).sqrt() + w]

    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    (hidden,) = layer(x, w)
    with pytest.raises(wyrm.NotFiniteError, match=r"began at sqrt \(1, 1\), which is part of node \d in wyrm.draw") as info:
        wyrm.fit(hidden.square(), {x: [0.0]}, SGD(0.1, [w]), num_threads=1)
    assert info.value.node == "sqrt (1, 1)"
    assert w.value == 1


def test_small_models_need_no_look():
    """Steps of a few nanoseconds have programs as without the check."""
    from wyrm.frontend.lowering.lower import lower
    from wyrm.frontend.lowering.trace import trace
    from wyrm.frontend.lowering.updates import Training

    rule = SGD(0.1, [wyrm.ParameterNode(0.0)]).groups[0].rule
    a, b, x, y = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0), wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    users, items = wyrm.ParameterNode(np.ones((5, 8))), wyrm.ParameterNode(np.ones((5, 8)))
    i, j, bag = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.BagInputNode()
    score = users.index(i).vector_dot(items.index(j))
    for loss in (
        (a * x + b - y).square(),
        (score - y).square(),
        wyrm.nn.losses.bpr(score, users.index(j).vector_dot(items.index(i))),
        wyrm.nn.losses.hinge(score, y),
        wyrm.nn.losses.binary_cross_entropy(users.index_sum(bag).scalar_sum(), y),
    ):
        traced, _, _ = trace([loss._structure])
        training = (Training(rule, 0),) * len(loss.parameters())
        kernels = frozenset({"lookup", "fused", "row_dot"})
        programs = [lower(traced, "train", kernels, training, checked=checked) for checked in (True, False)]
        assert repr(programs[0]) == repr(programs[1])


def test_a_parameter_of_an_earlier_graph_is_gone(backend):
    """The graph that has gathered the gradient is still found, and the other one's program passed over."""
    weight = wyrm.ParameterNode(np.zeros((1, 1)))
    gone = wyrm.ParameterNode(np.ones((1, 1)))
    earlier = (weight * gone).square()
    earlier.forward()
    earlier.backward(1.0)
    kept = earlier._workspace  # as somebody may who is still to let go of it
    earlier.zero_gradient()
    del earlier, gone
    gc.collect()
    x = wyrm.InputNode((1, 1), 1.0)
    loss = ((weight * x).sqrt() - 1.0).square()
    loss.forward()
    loss.backward(1.0)
    with pytest.raises(wyrm.NotFiniteError, match="It began at sqrt"):
        SGD(0.1, [weight]).step()
    assert kept is not None


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)], ids=str)
def test_of_several_passes_the_earliest_is_named(backend, order):
    """Graphs of one structure, and another one; in whichever order they were made, and ran before."""
    w = wyrm.ParameterNode([[1.0, 1.0, 1.0]], name="w")
    inputs = [wyrm.InputNode((1, 3), [np.arange(3) != n]) for n in range(3)]
    losses = [(w * x).abs().sqrt().scalar_sum() for x in inputs] + [((w - 1.0).abs() ** 0.5).scalar_sum()]
    for n in (3, 0, 1, 2, *order, 3):
        losses[n].forward()
    for loss in losses[::-1]:
        loss.backward(1.0)
    with pytest.raises(wyrm.NotFiniteError, match=rf"began at sqrt.* at \(0, {order[0]}\)"):
        SGD(0.1, [w]).step()
