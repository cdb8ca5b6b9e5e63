"""Random sequences of what users do with a small model, and what each of them finds.

A sequence is the same on any :class:`World`: its numbers come from the sequence alone. A world that forgets throws away what
earlier calls have left ready, before each of them: so it shows what a world has to find that keeps everything.
"""

import os
import tempfile
import warnings

import numpy as np
from small_models import MODELS, OPTIMIZERS
from training_operations import WEIGHTS, Planned, Training, number

import wyrm
from wyrm.optim import SGD
from wyrm.training import evaluation
from wyrm.turns import NOT_AT_ONCE, READY


class World(Training):
    """A model and optimizers on a backend, and what one does with them: methods take a generator and return what they find."""

    def __init__(self, model, optimizer, dtype, backend, forget, folder):
        self.model = MODELS[model](dtype)
        self.make = OPTIMIZERS[optimizer]
        self.made = self.make(self.model.parameters)
        self.backend, self.forget, self.folder = backend, forget, folder
        self.states, self.files, self.others, self.second = [], 0, [], None
        self.checkpoint = None
        self.kept = []
        #: Whether rows are told that are behind, which depends on how steps were bound.
        self.exactly = True

    @property
    def optimizers(self):
        return self.made if isinstance(self.made, list) else [self.made]

    def do(self, operation):
        """What an operation finds, as a list of arrays and strings."""
        name, seed = operation
        rng = np.random.default_rng(seed)
        if self.forget:
            self._forget()
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with wyrm.use_backend(self.backend):
                    found = getattr(self, name)(rng)
            except (wyrm.WyrmError, Planned) as error:
                found = [type(error).__name__, str(error).replace(self.folder, "")]
        return [] if found is None else found

    def _forget(self):
        evaluation._KEPT.clear()
        for optimizer in [*self.optimizers, *([self.second] if self.second else [])]:
            optimizer.sessions.clear()
            if self.forget == "steps":  # bound anew, they may round in another way
                optimizer._native = None
        nodes = [*self.model.inputs.values(), self.model.scale, *[node for pair in self.others for node in pair]]
        for node in nodes:
            if hasattr(node, "_setter"):
                node._setter = node._asked = None
            graph = node._graph
            graph.words[READY] = 0
            for workspace in graph.workspaces:
                if workspace.binding.expired_backward:
                    continue
                workspace.backward_at_once = lambda weight: NOT_AT_ONCE
                workspace.is_fresh = lambda: False

    def final(self):
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        return [p.value.copy() for p in self.model.parameters] + [
            s[name] for s in states for name in sorted(s) if self.exactly or "missed" not in name
        ]

    # -- data

    def _value(self, kind, rng, wrong=False):
        if kind[0] == "index":
            if kind[2] == 1:
                value = int(rng.integers(kind[1])) if not wrong else [-1, kind[1], 2**40][rng.integers(3)]
                return [value, np.int64(value), [value], np.array([value])][rng.integers(4)]
            values = rng.integers(0, kind[1], kind[2])
            if wrong:
                values[rng.integers(kind[2])] = kind[1] if rng.random() < 0.5 else -1
            return [values.tolist(), values, values.astype(np.int32).reshape(-1, 1) if not wrong else values][rng.integers(3)]
        if kind[0] == "bag":
            values = rng.integers(0, kind[1], [0, 1, 3, 5, 40, 300][rng.integers(6)]).tolist()
            if wrong:
                values = [*values, kind[1]]
            if rng.random() < 0.2 and values:
                return wyrm.Bags.from_lists([values], [rng.random(len(values)).tolist()])
            return [values, [values], wyrm.Bags.from_lists([values])][rng.integers(3)]
        if wrong:
            return np.zeros((2, kind[1] + 1))
        if kind[1] == 1:
            return number(rng, True)
        value = rng.standard_normal((1, kind[1]))
        if rng.random() < 0.03:
            value[0, 0] = np.nan
        return [value, value.tolist(), value.astype(np.float32)][rng.integers(3)]

    def _feed(self, rng, count, y=True, wrong=False, nodes=True):
        feed = {}
        for name, kind in self.model.kinds.items():
            if name == "y" and not y:
                continue
            if kind[0] == "index":
                data = rng.integers(0, kind[1], (count, kind[2]))
                data = data.astype([np.int64, np.int32][int(rng.random() < 0.1)])
                if kind[2] == 1 and rng.random() < 0.5:
                    data = data[:, 0]
            elif kind[0] == "bag":
                length = [0, 1, 3, 8, 60][rng.integers(5)]
                lists = [rng.integers(0, kind[1], length).tolist() for _ in range(count)]
                weights = [rng.random(length).tolist() for _ in range(count)] if rng.random() < 0.2 else None
                data = wyrm.Bags.from_lists(lists, weights)
            else:
                data = rng.standard_normal((count, kind[1])).astype([np.float64, np.float32][int(rng.random() < 0.1)])
            feed[name] = data
        if wrong:
            name = list(feed)[rng.integers(len(feed))]
            kind = self.model.kinds[name]
            if kind[0] == "index":
                feed[name] = np.full((count, kind[2]), [kind[1], -1][rng.integers(2)])
            elif kind[0] == "bag":
                feed[name] = wyrm.Bags.from_lists([[0, kind[1]]] * count)
            else:
                feed[name] = np.full((count, kind[1]), [np.nan, np.inf, 1e300][rng.integers(3)])
        return {self.model.inputs[name]: data for name, data in feed.items()} if nodes else feed

    def _which(self, rng):
        return [self.model.root, self.model.root, self.model.node][rng.integers(3)]

    # -- inputs and passes

    def set_input(self, rng):
        for name, kind in self.model.kinds.items():
            if rng.random() < 0.6:
                self.model.inputs[name].set_value(self._value(kind, rng))

    def set_all(self, rng):
        for name, kind in self.model.kinds.items():
            self.model.inputs[name].set_value(self._value(kind, rng))

    def set_wrong(self, rng):
        name = list(self.model.kinds)[rng.integers(len(self.model.kinds))]
        self.model.inputs[name].set_value(self._value(self.model.kinds[name], rng, wrong=True))

    def read_input(self, rng):
        return [node.value for node in self.model.inputs.values() if not isinstance(node, wyrm.BagInputNode)]

    def set_scale(self, rng):
        self.model.scale.set_value([1.0, 0.5, -0.7, 2.0, 1e30, 0.0][rng.integers(6)])

    def forward(self, rng):
        self._which(rng).forward()

    def backward(self, rng):
        node = self._which(rng)
        for _ in range(rng.integers(1, 3)):
            node.backward([1.0, 0.5, -2.0, 0.0, float("inf")][rng.choice(5, p=[0.6, 0.2, 0.1, 0.08, 0.02])])

    def whole_step(self, rng):
        self.set_all(rng)
        self.model.root.forward()
        self.model.root.backward(1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return [self.model.root.value]

    def steps(self, rng):
        for _ in range(3):
            self.whole_step(rng)

    def value(self, rng):
        return [self._which(rng).value]

    def gradients(self, rng):
        return [p.gradient.to_dense() for p in self.model.parameters]

    def zero(self, rng):
        self.model.root.zero_gradient()

    def set_gradient(self, rng):
        parameter = self._parameter(rng)
        values = rng.standard_normal(parameter.shape)
        if rng.random() < 0.1:
            values[0, 0] = [np.nan, np.inf, 1e38][rng.integers(3)]
        if rng.random() < 0.5:
            parameter.set_gradient(values)
        else:
            row = rng.integers(parameter.shape[0])
            parameter.set_gradient(wyrm.RowSparseGradient(np.array([row]), values[:1], parameter.shape))

    def step(self, rng):
        for optimizer in self.optimizers:
            optimizer.step()

    def in_evaluating(self, rng):
        node = self._which(rng)
        with wyrm.evaluating():
            if rng.random() < 0.5:
                node.forward()
            return [node.value]

    def other_backend(self, rng):
        node = self._which(rng)
        node.forward(backend=["reference", self.backend][rng.integers(2)])
        return [node.value]

    def back(self, rng):
        self.model.root.forward(backend=self.backend)

    # -- parameters and optimizers

    def _parameter(self, rng):
        return self.model.parameters[rng.integers(len(self.model.parameters))]

    def read_parameters(self, rng):
        return [p.value.copy() for p in self.model.parameters]

    def set_parameter(self, rng):
        parameter = self._parameter(rng)
        parameter.set_value(rng.standard_normal(parameter.shape) * (1e25 if rng.random() < 0.03 else 0.5))

    def put_back(self, rng):
        parameter = self._parameter(rng)
        parameter.set_value(parameter.value)

    def trainable(self, rng):
        parameter = self._parameter(rng)
        parameter.trainable = bool(rng.random() < 0.6)

    def all_trainable(self, rng):
        for parameter in self.model.parameters:
            parameter.trainable = True

    def frozen(self, rng):
        parameter = self._parameter(rng)
        rows = rng.integers(0, parameter.shape[0], 2)
        parameter.frozen_rows = rows if rng.random() < 0.6 else None

    def max_norm(self, rng):
        self._parameter(rng).max_norm = [None, 0.5, 1.0][rng.integers(3)]

    def rate(self, rng):
        for optimizer in self.optimizers:
            optimizer.learning_rate = [0.0, 0.01, 0.1][rng.integers(3)]

    def keep_state(self, rng):
        self.states.append([[p.value.copy() for p in self.model.parameters], [o.state_dict() for o in self.optimizers]])

    def load_state(self, rng):
        if self.states:
            values, states = self.states[rng.integers(len(self.states))]
            if rng.random() < 0.7:
                for p, value in zip(self.model.parameters, values, strict=True):
                    p.set_value(value)
            for optimizer, state in zip(self.optimizers, states, strict=True):
                optimizer.load_state_dict(state)

    def save_file(self, rng):
        path = os.path.join(self.folder, f"{id(self)}-{self.files}")
        wyrm.save(path, self.model.root, self.optimizers)
        self.files += 1

    def load_file(self, rng):
        if self.files:
            wyrm.load(os.path.join(self.folder, f"{id(self)}-{rng.integers(self.files)}"), self.model.root, self.optimizers)

    def new_optimizer(self, rng):
        self.made = self.make(self.model.parameters)

    def old_optimizer(self, rng):
        self.kept.append(self.made)
        self.made = self.kept[rng.integers(len(self.kept))]

    def other_optimizer(self, rng):
        """Another one steps on the same parameters."""
        if self.second is None or rng.random() < 0.3:
            self.second = [
                SGD(0.02, self.model.parameters[:2], momentum=0.3),
                SGD(0.02, self.model.parameters, weight_decay=0.2),
            ][rng.integers(2)]
        if rng.random() < 0.5:
            self.second.step()
        else:
            wyrm.fit(self.model.root, self._feed(rng, 1), self.second, seed=1, backend=self.backend)


def sequence(seed, length):
    """A sequence: model, optimizer, dtype, and operations, each with a seed of its own."""
    rng = np.random.default_rng([seed, 77])
    names, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    chosen = rng.choice(len(names), length, p=weights / weights.sum())
    operations = [("set_all", int(rng.integers(1 << 30)))] + [(names[n], int(rng.integers(1 << 30))) for n in chosen]
    how = list(MODELS)[rng.integers(len(MODELS))], list(OPTIMIZERS)[rng.integers(len(OPTIMIZERS))]
    return *how, "float64" if rng.random() < 0.7 else "float32", operations


def differ(found, expected, tolerance=0.0):
    """How what two worlds found differs; ``None`` if it does not."""
    if len(found) != len(expected):
        return f"{len(found)} results, expected {len(expected)}: {found} {expected}"
    for a, b in zip(found, expected, strict=True):
        if isinstance(a, str) or isinstance(b, str):
            a, b = (str(text).partition(" It began at")[0] for text in (a, b))  # there may be several places
            if a != b and not tolerance:
                return f"{a!r}, expected {b!r}"
        elif a.shape != b.shape or not np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
            return f"{a}, expected {b}"
    return None


def played(case, backend, forget, exactly=True):
    """What a world finds at each operation, and how it ends."""
    model, optimizer, dtype, operations = case
    results = []
    with tempfile.TemporaryDirectory() as folder:
        wyrm.InputNode((1, 1), 1.0).square().forward()  # closes the graph of whoever was here before
        world = World(model, optimizer, dtype, backend, forget, folder)
        world.exactly = exactly
        for place, operation in enumerate(operations):
            results.append([*world.do(operation), *(world.final() if place % 8 == 7 or place == len(operations) - 1 else [])])
    return results


def play(case, backend, against=None):
    """The first difference from what is found if all that is kept is forgotten: the number of its operation, and how.

    Bit for bit on the same backend; to rounding ``against`` another one.
    """
    tolerance = 0.0 if against is None else {"float32": 2e-3, "float64": 1e-7}[case[2]]
    results = (
        played(case, backend, "", not against),
        played(case, against or backend, "steps" if against else "kept", not against),
    )
    for place, (found, expected) in enumerate(zip(*results, strict=True)):
        if difference := differ(found, expected, tolerance):
            return place, f"{case[3][place]}: {difference}"
    return None


def shrunk(case, backend, against=None):
    """A sequence as short as leaving out operations makes it that still shows a difference."""
    *how, operations = case
    place = play(case, backend, against)[0]
    operations = operations[: place + 1]
    again = True
    while again:
        again = False
        for n in reversed(range(len(operations))):
            fewer = operations[:n] + operations[n + 1 :]
            try:
                if fewer and play((*how, fewer), backend, against):
                    operations, again = fewer, True
            except Exception:
                continue
    return *how, operations
