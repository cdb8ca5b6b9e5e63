"""What optimizers have in common: groups, clipping over all parameters, schedules, saved state, bad options."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW, Group, RowwiseAdagrad, schedules

pytestmark = pytest.mark.variants


def dense_model(rng, shape=(5, 3)):
    """A loss that is linear in its parameters: the gradient of each is what its input is set to."""
    parameters = [wyrm.ParameterNode(rng.standard_normal(shape), dtype="float64") for _ in range(2)]
    inputs = [wyrm.InputNode(shape, dtype="float64") for _ in parameters]
    loss = (parameters[0] * inputs[0]).scalar_sum() + (parameters[1] * inputs[1]).scalar_sum()
    return parameters, inputs, loss


def step(inputs, loss, optimizers, gradients):
    for node, gradient in zip(inputs, gradients, strict=True):
        node.set_value(gradient)
    loss.forward()
    loss.backward(1.0)
    for optimizer in optimizers:
        optimizer.step()


def test_groups(backend, rng):
    parameters, inputs, loss = dense_model(rng)
    start = [p.value.copy() for p in parameters]
    optimizer = SGD(0.1, [Group(parameters[:1], learning_rate=0.5), Group(parameters[1:], l2=1.0)])
    gradients = [rng.standard_normal((5, 3)) for _ in range(2)]
    step(inputs, loss, [optimizer], gradients)
    np.testing.assert_allclose(parameters[0].value, start[0] - 0.5 * gradients[0])
    np.testing.assert_allclose(parameters[1].value, start[1] - 0.1 * (gradients[1] + start[1]))
    parameters[0].set_value(start[0])
    parameters[1].set_value(start[1])
    feed = {node: np.stack([gradient]) for node, gradient in zip(inputs, gradients, strict=True)}
    wyrm.fit(loss, feed, optimizer)
    np.testing.assert_allclose(parameters[0].value, start[0] - 0.5 * gradients[0])
    np.testing.assert_allclose(parameters[1].value, start[1] - 0.1 * (gradients[1] + start[1]))


def test_the_norm_that_is_clipped_is_that_of_all_parameters(backend, rng):
    parameters, inputs, loss = dense_model(rng)
    start = [p.value.copy() for p in parameters]
    gradients = [10 * rng.standard_normal((5, 3)) for _ in range(2)]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    step(inputs, loss, [SGD(1.0, [parameters[0], Group(parameters[1:], l2=0.5)], clip_norm=2.0)], gradients)
    np.testing.assert_allclose(parameters[0].value, start[0] - 2 / norm * gradients[0])
    np.testing.assert_allclose(parameters[1].value, start[1] - 2 / norm * gradients[1] - 0.5 * start[1])


def test_several_optimizers_in_one_run(backend, rng):
    parameters, inputs, loss = dense_model(rng)
    start = [p.value.copy() for p in parameters]
    optimizers = [SGD(0.1, parameters[:1]), Adagrad(0.2, parameters[1:])]
    gradients = [rng.standard_normal((5, 3)) for _ in range(2)]
    feed = {node: np.stack([gradient]) for node, gradient in zip(inputs, gradients, strict=True)}
    wyrm.fit(loss, feed, optimizers)
    np.testing.assert_allclose(parameters[0].value, start[0] - 0.1 * gradients[0])
    np.testing.assert_allclose(parameters[1].value, start[1] - 0.2 * np.sign(gradients[1]), rtol=1e-6)


def test_parameters_that_are_not_trained(backend):
    fixed, free = wyrm.ParameterNode(2.0, trainable=False), wyrm.ParameterNode(1.0)
    x = wyrm.InputNode((1, 1))
    loss = fixed * free * x
    optimizer = SGD(0.1, [fixed, free])
    x.set_value(1.0)
    loss.forward()
    loss.backward(1.0)
    optimizer.step()
    assert (fixed.value, free.value) == (2, np.float32(0.8))
    wyrm.fit(loss, {x: [1.0]}, optimizer)
    assert fixed.value == 2
    np.testing.assert_allclose(free.value, 0.6, rtol=1e-6)


SCHEDULES = {
    "constant": (schedules.constant(0.5), lambda n: 0.5),
    "step": (schedules.step(0.5, every=3, factor=0.1), lambda n: 0.5 * 0.1 ** (n // 3)),
    "cosine": (schedules.cosine(0.5, 8, final=0.1), lambda n: 0.1 + 0.2 * (1 + np.cos(np.pi * min(n / 8, 1)))),
    "warmup": (schedules.warmup(schedules.constant(0.5), 4), lambda n: 0.5 * min((n + 1) / 4, 1)),
    "inverse_square_root": (schedules.inverse_square_root(0.5, 2), lambda n: 0.5 * np.sqrt(2 / max(n + 1, 2))),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(backend, name):
    """By steps, then by fit over two epochs, which goes on where the steps ended."""
    schedule, formula = SCHEDULES[name]
    w, x = wyrm.ParameterNode(0.0, dtype="float64"), wyrm.InputNode((1, 1), 1.0, dtype="float64")
    loss = w * x
    optimizer = SGD(schedule, [w])
    expected = 0.0
    for n in range(4):
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
        expected -= formula(n)
        np.testing.assert_allclose(w.value, expected, rtol=1e-12)
        assert optimizer.learning_rate == pytest.approx(formula(n))
    seen = []
    wyrm.fit(loss, {x: np.ones(3)}, optimizer, num_epochs=2, callbacks=[lambda epoch: seen.append(optimizer.learning_rate)])
    expected -= sum(formula(n) for n in range(4, 10))
    np.testing.assert_allclose(w.value, expected, rtol=1e-12)
    assert seen == pytest.approx([formula(6), formula(9)])
    assert optimizer.steps == 10


def test_schedules_are_checked():
    for schedule in (lambda steps: steps - 5.0, lambda steps: np.zeros(3), lambda steps: np.full(len(steps), np.nan)):
        w = wyrm.ParameterNode(1.0)
        with pytest.raises(wyrm.WyrmError, match="learning_rate"):
            SGD(schedule, [w]).step()


def test_fit_with_momentum_and_a_schedule_equals_steps(backend, rng):
    """Rows that fall behind while the rate changes are caught up at the last step's rate, in both."""
    start, rows, xs = rng.standard_normal((7, 3)), rng.integers(0, 7, 30), rng.standard_normal((30, 1, 3))
    values = []
    for native in (True, False):
        table, index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
        x = wyrm.InputNode((1, 3), dtype="float64")
        loss = (table.index(index) * x).scalar_sum()
        optimizer = SGD(schedules.cosine(0.3, 40), [table], momentum=0.8, weight_decay=0.1)
        if native:
            wyrm.fit(loss, {index: rows, x: xs}, optimizer, shuffle=False)
        else:
            for row, value in zip(rows, xs, strict=True):
                index.set_value(row)
                x.set_value(value)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        values.append(table.value.copy())
    np.testing.assert_allclose(values[0], values[1], rtol=1e-10, atol=1e-12)


def test_what_sums_of_adagrad_begin_with(backend):
    """An option, by group; it is no part of what a step needs to know."""
    a, b = (wyrm.ParameterNode(np.ones((2, 3))) for _ in range(2))
    optimizer = Adagrad(0.5, [a, Group([b], initial_accumulator_value=0.0)], initial_accumulator_value=3.0)
    assert [group.options for group in optimizer.groups] == 2 * [{"learning_rate": 0.5, "eps": pytest.approx(1e-10)}]
    (a + b).scalar_sum().backward(1.0)
    optimizer.step()
    np.testing.assert_allclose(a.value, 1 - 0.5 / 2)
    np.testing.assert_allclose(b.value, 1 - 0.5)
    assert (optimizer.state_dict()["0.adagrad.sum"] == 4).all()


@pytest.mark.parametrize("optimizer_class", [SGD, Adagrad, RowwiseAdagrad, Adam, AdamW, FTRL])
def test_state_is_saved_and_restored(backend, rng, optimizer_class):
    """Training that is cut in two, by way of dictionaries of arrays, ends where it does in one go."""
    options = {"momentum": 0.5} if optimizer_class is SGD else {}
    gradients = rng.standard_normal((6, 2, 5, 3))
    seed = int(rng.integers(1000))
    whole, inputs, loss = dense_model(np.random.default_rng(seed))
    optimizer = optimizer_class(schedules.cosine(0.1, 10), whole, **options)
    for gradient in gradients[:3]:
        step(inputs, loss, [optimizer], gradient)
    kept, values = optimizer.state_dict(), [p.value.copy() for p in whole]
    for gradient in gradients[3:]:
        step(inputs, loss, [optimizer], gradient)
    again, inputs, loss = dense_model(np.random.default_rng(seed + 1))
    restored = optimizer_class(schedules.cosine(0.1, 10), again, **options)
    restored.load_state_dict(kept)
    assert restored.steps == 3
    for p, value in zip(again, values, strict=True):
        p.set_value(value)
    for gradient in gradients[3:]:
        step(inputs, loss, [restored], gradient)
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_a_state_has_the_learning_rates():
    """Those that were set by hand, by group; and whether a schedule is still followed."""

    def made():
        a, b = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0)
        return Adam(schedules.step(0.1, 5), [a, Group([b], learning_rate=0.3)])

    one, other = made(), made()
    other.load_state_dict({**one.state_dict(), "steps": 7})
    assert [group.learning_rate for group in other.groups] == pytest.approx([0.01, 0.3])
    one.learning_rate = 0.001
    other.load_state_dict({**one.state_dict(), "steps": 7})
    assert [group.learning_rate for group in other.groups] == pytest.approx([0.001, 0.001])
    assert other.groups[0].schedule is None
    other.load_state_dict(made().state_dict())  # the schedule that it was made with goes on
    other.step()
    assert other.groups[0].learning_rate == pytest.approx(0.1)
    plain = Adam(0.1, [wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0)])
    with pytest.raises(wyrm.WyrmError):
        plain.load_state_dict(made().state_dict())
    fixed = Adam(0.1, [wyrm.ParameterNode(0.0)])
    with pytest.raises(wyrm.OptionError, match="follows a schedule"):
        fixed.load_state_dict(Adam(schedules.constant(0.1), [wyrm.ParameterNode(0.0)]).state_dict())


def test_a_state_of_something_else_is_refused():
    a, b = wyrm.ParameterNode(np.ones((2, 3))), wyrm.ParameterNode(np.ones((3, 3)))
    state = Adam(0.1, [a]).state_dict()
    with pytest.raises(wyrm.OptionError, match="another optimizer"):
        Adagrad(0.1, [a]).load_state_dict(state)
    optimizer = Adam(0.1, [b])
    with pytest.raises(wyrm.ShapeError, match=r"\(3, 3\)"):
        optimizer.load_state_dict({**state, "steps": 5})
    assert optimizer.steps == 0


class Misspelt(SGD):
    """An optimizer of one's own that hands on whatever it is given."""

    def __init__(self, learning_rate, parameters, **options):
        super(SGD, self).__init__(learning_rate, parameters, **options)


@pytest.mark.parametrize(
    ("make", "kind", "pattern"),
    [
        (lambda w: SGD(0.1, [w], momentum=1.0), wyrm.OptionError, "momentum to be below 1"),
        (lambda w: SGD(0.1, [w], momentum=0.5, l1=0.1), wyrm.OptionError, "l1"),
        (lambda w: Adam(0.1, [w], betas=(0.9, 1.0)), wyrm.OptionError, "beta2"),
        (lambda w: Adam(0.1, [w], betas=0.9), wyrm.OptionError, "betas"),
        (lambda w: Adagrad(-0.1, [w]), wyrm.OptionError, "learning_rate"),
        (lambda w: Adagrad(0.1, [w], initial_accumulator_value=-1.0), wyrm.OptionError, "initial_accumulator_value"),
        (lambda w: FTRL(0.1, [w], l1=-1.0), wyrm.OptionError, "l1"),
        (lambda w: SGD(0.1, [w], clip_norm="1"), wyrm.DTypeError, "clip_norm"),
        (lambda w: SGD(0.1, [Group([w], nesterov=True)]), wyrm.OptionError, "nesterov.*it may have.*momentum"),
        (lambda w: SGD(0.1, [Group([w], clip_norm=1.0)]), wyrm.OptionError, "clip_norm"),
        (lambda w: SGD(0.1, [w, Group([w])]), wyrm.OptionError, "twice"),
        (lambda w: SGD(0.1, [w, wyrm.ParameterNode.shared(w.storage)]), wyrm.OptionError, "twice"),
        (lambda w: SGD(0.1, [Group([])]), wyrm.OptionError, "got none"),
        (lambda w: SGD([w], 0.1), wyrm.DTypeError, r"expected parameters, got 0.1; the learning rate comes first: SGD\(0.1, "),
        (lambda w: Misspelt(0.1, [w], momentun=0.5), wyrm.OptionError, "no option 'momentun'"),
    ],
)
def test_bad_options(make, kind, pattern):
    with pytest.raises(kind, match=pattern):
        make(wyrm.ParameterNode(1.0))


@pytest.mark.parametrize("kind", [SGD, Adagrad, RowwiseAdagrad, Adam, AdamW, FTRL])
def test_what_is_set_and_changes_nothing_is_an_error(kind):
    optimizer = kind(0.1, [wyrm.ParameterNode(1.0)])
    for name in ("lr", "l2", "weight_decay", "momentum", "clip_norm", "leaning_rate"):
        with pytest.raises(AttributeError, match=name):
            setattr(optimizer, name, 0.5)
    optimizer.learning_rate = 0.5
    assert optimizer.learning_rate == 0.5
