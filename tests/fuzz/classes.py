"""Classes and functions used wrongly: arguments of any type, calls in any order, attributes changed after construction.

Nothing may crash, and what is raised has to say what was wrong. What raises has changed nothing.
"""

from __future__ import annotations

import contextlib
import copy
import decimal
import fractions
import inspect
import os
import pickle
from typing import Any

import numpy as np

import wyrm
from tests.fuzz.cases import Line, expressions
from wyrm import nn, optim
from wyrm.optim import schedules

NAME = "classes"


# --- what the cases use ---------------------------------------------------------------------------------------


class World:
    """One thing of each kind, as attributes, and a small model of them."""

    def __init__(self) -> None:
        self.x = wyrm.InputNode((1, 3), np.ones((1, 3)), name="x")
        self.y = wyrm.InputNode((1, 1), 2.0, name="y")
        self.index = wyrm.IndexInputNode(1, 2, name="index")
        self.indices = wyrm.IndexInputNode(2, [0, 3], name="indices")
        self.bag = wyrm.BagInputNode(1, [[0, 4]], name="bag")
        self.table = wyrm.ParameterNode(np.arange(15.0).reshape(5, 3) / 15, name="table")
        self.bias = wyrm.ParameterNode(np.zeros((1, 1)), name="bias")
        self.storage = self.table.storage
        self.sample = wyrm.SampledIndexNode(5, exclude=self.bag)
        self.linear, self.lstm, self.gru = nn.Linear(3, 1, rng=1), nn.LSTM(3, 2, rng=2), nn.GRU(3, 2, rng=3)
        self.embedding, self.ewma = nn.Embedding(5, 3, rng=4, padding_idx=0), nn.EWMA(3)
        self.modules = nn.ModuleList([self.linear, self.embedding])
        self.hidden = self.table.index(self.index) * self.x + self.table.index_sum(self.bag)
        self.score = self.linear(self.hidden) + self.bias
        self.loss = (self.score - self.y).square()
        self.optimizer = optim.Adam(0.1, self.loss.parameters())
        self.sgd = optim.SGD(schedules.cosine(0.1, 10), [self.linear.weights], momentum=0.5)
        self.ftrl, self.group = optim.FTRL(0.1, [self.bias], l1=0.1), optim.Group([self.bias], learning_rate=0.5)
        self.bags = wyrm.Bags.from_lists([[0, 1], [2], []], [[1.0, 2.0], [0.5], []])
        self.ragged, self.dense = wyrm.Ragged.of([[0, 1], [2]]), wyrm.Dense([1, 2])
        self.frequencies = wyrm.Frequencies([1, 2, 3, 4, 5])
        self.epoch = wyrm.Epoch(1, 0.5, 10, 0.1)
        self.history = wyrm.History("reference", 1, 0.1, epochs=[self.epoch])
        self.gradient = wyrm.RowSparseGradient(np.array([0, 2]), np.ones((2, 3), np.float32), (5, 3))
        self.dense_gradient = wyrm.DenseGradient(np.ones((5, 3), np.float32))
        self.stopping, self.rate = wyrm.EarlyStopping("loss"), wyrm.LearningRate(lambda epoch: 0.1)
        self.checkpoint = wyrm.Checkpoint(PATH)
        self.callback = wyrm.Callback()
        self.feed = {
            self.x: np.ones((4, 3)),
            self.y: np.arange(4.0),
            self.index: [0, 1, 2, 3],
            self.bag: [[0], [1, 2], [], [4]],
        }
        self.made: Any = None

    def step(self) -> None:
        self.loss.forward()
        self.loss.backward(1.0)
        self.optimizer.step()

    def fit(self, **options: Any) -> Any:
        return wyrm.fit(self.loss, self.feed, self.optimizer, **{"backend": "reference", "seed": 1, **options})

    def evaluate(self) -> Any:
        feed = {node: values for node, values in self.feed.items() if node is not self.y}
        return wyrm.evaluate(self.score, feed, backend="reference")

    def layers(self) -> None:
        for layer in (self.lstm, self.gru, self.ewma):
            for node in layer([self.x, self.x]):
                node.forward()
        self.embedding(self.index).forward()

    def save(self) -> None:
        wyrm.save(PATH, self.loss, self.optimizer)
        wyrm.load(PATH, self.loss, self.optimizer)

    def state(self) -> list[Any]:
        """All values and options."""
        parameters = {*self.loss.parameters(), *self.optimizer.parameters}
        values = [np.array(node.value) for node in sorted(parameters, key=lambda node: node.storage.number)]
        state = self.optimizer.state_dict()
        values += [np.array(state[key]) for key in sorted(state)]
        inputs = [np.array(node.value) if node.is_set else None for node in (self.x, self.y, self.index, self.indices)]
        shown = [self.bag.value.to_lists(), self.bags.to_lists(), self.ragged.to_lists()]
        marks = [(node.trainable, node.max_norm, np.array(node.frozen_rows)) for node in (self.table, self.bias)]
        return [*values, *inputs, *shown, *marks, [group.options for group in self.optimizer.groups]]


def unchanged(before: list[Any], after: list[Any]) -> None:
    """What raised has changed nothing."""
    for a, b in zip(before, after, strict=True):
        np.testing.assert_equal(a, b)


#: In the folder that each child has.
PATH = "saved"


class Mischief(Exception):
    """What :class:`Evil` raises."""


class Evil:
    """Something that raises whatever is done with it."""

    def _raise(self, *args: Any, **options: Any) -> Any:
        raise Mischief

    __len__ = __iter__ = __getitem__ = __bool__ = __index__ = __float__ = __int__ = __call__ = __array__ = _raise
    __add__ = __radd__ = __mul__ = __rmul__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = __fspath__ = _raise


def deep() -> list[Any]:
    """A list in a list, and so on."""
    inner: list[Any] = []
    for _ in range(5000):
        inner = [inner]
    return inner


def own() -> list[Any]:
    """A list that holds itself."""
    inner: list[Any] = [1.0]
    inner.append(inner)
    return inner


# --- how cases are written ------------------------------------------------------------------------------------

_PARTS = expressions(__file__)
#: What is right for parameters of these names, wherever they occur, or for those of one function.
_RIGHT = dict(line.split(": ", 1) for line in _PARTS["right"])

#: What is right for parameters of these names, wherever they occur.
#: Methods for those who write parts of Wyrm, or optimizers, or that wait for somebody.
_NOT_FOR_USERS = {
    *(
        "advance",
        "begin_run",
        "end_run",
        "expire",
        "rule",
        "update",
        "decay",
        "behind",
        "buffer",
        "enter",
        "follow",
        "keep_up",
        "numbers",
    ),
    *(
        "kept",
        "lazy",
        "note_change",
        "on_trial",
        "put_back",
        "settle",
        "state",
        "take_dtype",
        "constraints",
        "plot",
        "set_max_norm",
    ),
    *(
        "set_frozen_rows",
        "begin",
        "begin_epoch",
        "end",
        "end_epoch",
        "owner",
        "of",
        "sessions",
        "paths",
        "count_to",
        "adopted",
        "number",
        "fingerprint",
        "change",
    ),
}
_OBJECTS = tuple(name for name in vars(World()) if name not in ("feed", "made"))


#: What may stand for a truth value, which Python asks of anything.
_FLAGS = ("None", "0", "1", "'x'", "[]", "2.5", "object()", "m.table")
#: What users meet, but neither make nor call.
_NO_FUNCTIONS = (
    "Schedule",
    "Reduction",
    "Rng",
    "generator",
    "Node",
    "Run",
    "SparseCategoricalCrossentropy",
    "Drawing",
    "Optimizer",
)


def _functions() -> dict[str, Any]:
    """Every public class and function, by how it is written."""
    spaces = {"wyrm": wyrm, "nn": nn, "optim": optim, "nn.losses": nn.losses, "schedules": schedules, "nn.init": nn.init}
    found = {}
    for space, module in spaces.items():
        for name in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, name)
            error = isinstance(value, type) and issubclass(value, BaseException)
            if callable(value) and not name.startswith("_") and not error and name not in _NO_FUNCTIONS:
                found[f"{space}.{name}"] = value
    return found


FUNCTIONS = _functions()


def _chosen(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _call(rng: np.random.Generator, text: str, function: Any) -> str:
    """A call with arguments of which one or two may be wrong."""
    try:
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    except (TypeError, ValueError):
        parameters = []
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    wrong = set(rng.permutation(len(named))[: int(rng.choice([0, 1, 1, 1, 2]))].tolist())
    parts = []
    for n, parameter in enumerate(named):
        keys = [f"{'.'.join(text.split('.')[-depth:])}.{parameter.name}" for depth in (3, 2, 1)]
        right = next((_RIGHT[key] for key in (*keys, parameter.name) if key in _RIGHT), None)
        values = _FLAGS if parameter.annotation in ("bool", "bool | None") else _PARTS["values"]
        given = _chosen(rng, values) if n in wrong or right is None else right
        optional = parameter.default is not parameter.empty
        if optional and n not in wrong and rng.random() < 0.8:
            continue
        if rng.random() < 0.02:
            continue
        parts.append(given if parameter.kind == parameter.POSITIONAL_ONLY else f"{parameter.name}={given}")
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        parts = [_chosen(rng, _PARTS["values"]) if rng.random() < 0.5 else "[m.x, m.x]", *parts]
    if any(p.kind == p.VAR_KEYWORD for p in parameters) and rng.random() < 0.5:
        parts.append(f"{_chosen(rng, ('l2', 'momentum', 'trainable', 'clip_norm', 'zzz'))}={_chosen(rng, _PARTS['values'])}")
    return f"{text}({', '.join(parts)})"


def write(rng: np.random.Generator) -> list[Line]:
    """A case: a few things done to a world, and then what one does with it."""
    lines = [Line("setup", "m = World()")]
    world = World()
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        kind, name = rng.random(), str(_chosen(rng, _OBJECTS))
        value = getattr(world, name)
        lines.append(Line("check", "before = m.state()"))
        if kind < 0.35:
            function = str(_chosen(rng, list(FUNCTIONS)))
            lines.append(Line("attempt", f"m.made = {_call(rng, function, FUNCTIONS[function])}"))
        elif kind < 0.75:
            methods = [
                n
                for n in dir(type(value))
                if not n.startswith("_") and n not in _NOT_FOR_USERS and callable(getattr(type(value), n))
            ]
            methods += ["__call__"] if isinstance(value, nn.Module) else []
            if not methods:
                continue
            method = str(_chosen(rng, methods))
            lines.append(Line("attempt", f"m.made = {_call(rng, f'm.{name}.{method}', getattr(value, method))}"))
        elif kind < 0.9:
            attributes = [
                n
                for n in dir(value)
                if not n.startswith("_")
                and n not in _NOT_FOR_USERS
                and not callable(getattr(type(value), n, None))
                and (not isinstance(value, nn.Module) or isinstance(getattr(value, n), wyrm.ParameterNode))
            ]
            if not attributes:
                continue
            values = _PARTS["attributes of layers"] if isinstance(value, nn.Module) else _PARTS["values"]
            lines.append(Line("attempt", f"m.{name}.{_chosen(rng, attributes)} = {_chosen(rng, values)}"))
        else:
            operator = _chosen(rng, _PARTS["operators"]).format(a=f"m.{name}", b=_chosen(rng, _PARTS["values"]))
            lines.append(Line("attempt", f"m.made = {operator}"))
        if not any(word in lines[-1].text for word in ("wyrm.fit(", "wyrm.load(", "backward(", "step(")):
            lines.append(Line("unless", "unchanged(before, m.state())"))
    lines += [Line("attempt", str(_chosen(rng, _PARTS["uses"]))) for _ in range(int(rng.choice([0, 1, 1, 2])))]
    return [*lines, Line("attempt", "m.made.forward()")] if rng.random() < 0.2 else lines


@contextlib.contextmanager
def planted() -> Any:
    """Constants are taken whatever they are."""
    from wyrm.frontend import inputs

    kept = inputs.as_reals
    inputs.as_reals = lambda value, label: np.asarray(value)
    try:
        yield
    finally:
        inputs.as_reals = kept


_ = (copy, decimal, fractions, pickle)
