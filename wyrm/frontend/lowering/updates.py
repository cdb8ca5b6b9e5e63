"""What optimizers do, in instructions: updates by rules, clipping by norm, steps that are counted.

:func:`lower_update` is an optimizer's step over gradient buffers; :func:`missed` is what rows that are behind are read with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wyrm import sound
from wyrm.frontend.constraints import FROZEN
from wyrm.frontend.lowering.emitter import Emitter
from wyrm.frontend.lowering.inline import inlined, stored
from wyrm.frontend.lowering.instructions import instructions
from wyrm.frontend.lowering.layout import Layout
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.recent import Recent
from wyrm.program import InputSlot, ParameterSlot, Program, Rule, Shape

__all__ = ["GRADIENT_SCALE", "Training", "Updates", "lower_update", "missed"]

#: The last scalar of a rule that clips by norm: what the gradient is multiplied with. It is computed, not given.
GRADIENT_SCALE = "gradient_scale"


#: Programs by what they follow from.
_CACHE: Recent[object, Program] = Recent()


class Training(NamedTuple):
    """What happens to one parameter.

    Attributes
    ----------
    rule
        The arithmetic.
    scalars
        The number of the scalars that it reads.
    optimizer
        The number of the optimizer: the norm that is clipped is that of all its parameters.
    scheduled
        Whether the scalars come as an input, anew for each step.
    shape
        Of the parameter, if the structure that is lowered has not got it.
    """

    rule: Rule
    scalars: int
    optimizer: int = 0
    scheduled: bool = False
    shape: Shape = (0, 0)

    @property
    def given(self) -> int:
        """How many scalars the optimizer gives."""
        return len(self.rule.scalars) - (GRADIENT_SCALE in self.rule.scalars)


class _Update(NamedTuple):
    name: str
    parameter: int
    value: Value
    training: Training
    operands: tuple[Value, ...]


class Updates:
    """The updates of a step, recorded when all of them are known."""

    def __init__(self, k: Emitter) -> None:
        self.k = k
        self._updates: list[_Update] = []
        self._ticks: list[tuple[int, Shape, Training]] = []
        self._scalars: dict[int, Value] = {}
        self._squares: dict[tuple[object, ...], Value] = {}

    @property
    def schedules(self) -> list[tuple[Value, int]]:
        """The scalars that come as inputs, each with its number."""
        return [(value, number) for number, value in self._scalars.items() if value.place[0] == "schedule"]

    def add(self, name: str, parameter: int, value: Value, training: Training, *operands: Value) -> None:
        """Note an update: its kernel, and the gradient (or index and rows) that it takes."""
        self._updates.append(_Update(name, parameter, value, training, operands))

    def tick(self, parameter: int, shape: Shape, training: Training) -> None:
        """Note that a step is made on a parameter, with a gradient or without."""
        if training.rule.catch_up is not None:
            self._ticks.append((parameter, shape, training))

    def emit(self) -> list[Value]:
        """Record all updates."""
        k = self.k
        scales = {
            optimizer: self._scale([u for u in self._updates if u.training.optimizer == optimizer])
            for optimizer in {u.training.optimizer for u in self._updates if GRADIENT_SCALE in u.training.rule.scalars}
        }
        effects = []
        changed: list[tuple[Value, Value]] = []  # inlined: where results are to be stored, once all have been computed
        for update in [u if self._can_inline(u) else self._apart(u) for u in self._updates]:
            scale = scales.get(update.training.optimizer)
            if self._can_inline(update):
                changed += self._inlined(update, scale)
                continue
            training, p = update.training, update.parameter
            scalars = self.given(training)
            if GRADIENT_SCALE in training.rule.scalars:
                assert scale is not None
                scalars = k.blocks([scalars, scale], [(0, 0), (0, training.given)], (1, training.given + 1))
            beside = _beside(p, update.value.shape, training, scalars)
            effects.append(k.effect(update.name, update.value, *update.operands, *beside, rule=training.rule))
        effects += [stored(k, target, result) for target, result in changed]
        for p, shape, training in self._ticks:
            table, moving, clock = missed(p, shape, training.rule)
            effects.append(k.effect("tick", table, moving, self.given(training), clock))
        return effects

    def _apart(self, update: _Update) -> _Update:
        """An update with a copy of its gradient, where that is itself a parameter, which another update may change."""
        *index, gradient = update.operands
        found = gradient.viewed or gradient
        if found.place[:1] not in (("value",), ("row",)):
            return update
        return update._replace(operands=(*index, self.k.call("copy", gradient, shape=gradient.shape)))

    def _can_inline(self, update: _Update) -> bool:
        """Whether an update can be made of elementwise calls, and it helps."""
        catches_up = update.training.rule.catch_up is not None
        if update.name == "update_gradient" or catches_up or "fused" not in self.k.optional_kernels:
            return False
        by_input = update.operands[0].place[:1] == ("index",)
        return update.name == "update" or (by_input and update.parameter in self.k.tables)

    def _inlined(self, update: _Update, scale: Value | None) -> list[tuple[Value, Value]]:
        k, p, rule = self.k, update.parameter, update.training.rule
        value, gradient, scalars = update.value, update.operands[-1], self.given(update.training)
        states = _beside(p, value.shape, update.training, scalars)[:-1]
        if update.name == "update_rows":
            value, *states = (k.row(found.place, update.operands[0], found.shape[1]) for found in (value, *states))
        numbers = [k.slice(scalars, (0, 1), (n, n + 1)) for n in range(update.training.given)]
        if GRADIENT_SCALE in rule.scalars:
            assert scale is not None
            numbers.append(scale)
        return inlined(k, rule, value, gradient, states, numbers)

    def given(self, training: Training) -> Value:
        """The scalars that an optimizer gives."""
        number = training.scalars
        if number not in self._scalars:
            place = ("schedule" if training.scheduled else "scalars", number)
            self._scalars[number] = Value("", shape=(1, training.given), place=place)
        return self._scalars[number]

    def total_of_squares(self) -> Value:
        """The sum of the squares of all gradients in buffers: not finite if one of them is not."""
        total: Value | None = None
        for update in self._updates:
            squares = self._squares_of(update)
            total = squares if total is None else self.k.add(total, squares)
        return self.k.literal(0.0) if total is None else total

    def _squares_of(self, update: _Update) -> Value:
        """The sum of the squares of a gradient in a buffer, without rows that are frozen."""
        gradient = update.operands[-1]
        if gradient.place not in self._squares:
            squares = self._squares[gradient.place] = self.k.square_sum(gradient, *_frozen(update))
            squares.uses += 1
        return self._squares[gradient.place]

    def _scale(self, updates: Sequence[_Update]) -> Value:
        """What the gradients of an optimizer's parameters are multiplied with: clip_norm / norm, or 1 where that is more."""
        k = self.k
        total = k.literal(0.0)
        for update in updates:
            last = update.operands[-1]
            if update.name == "update_gradient":
                total = k.add(total, self._squares_of(update))
                continue
            for column in _frozen(update):
                of_rows = k.gather(column, update.operands[0]) if update.name == "update_rows" else column
                last = k.select(of_rows, k.literal(0.0), last)
            total = k.add(total, k.sum(k.multiply(last, last)))
        norm = k.sqrt(total)
        training = updates[0].training
        place = training.rule.scalars.index("clip_norm")
        limit = k.slice(self.given(training), (0, 1), (place, place + 1))
        return k.select(k.greater(norm, limit), k.divide(limit, norm), k.literal(1.0))


def missed(p: int, shape: Shape, rule: Rule) -> tuple[Value, Value, Value]:
    """Of a parameter, what is needed to make up for the steps that rows have missed: table, velocity and clock."""
    assert rule.catch_up is not None
    table = Value("", shape=shape, place=("value", p))
    velocity = rule.catch_up.state
    place = ("value", p) if velocity is None else ("state", p, rule.key(rule.states[velocity]))
    return table, Value("", shape=shape, place=place), Value("", shape=(1, 1), place=("clock", p, rule.name))


def _frozen(update: _Update) -> list[Value]:
    """Which rows of a parameter are frozen, if any may be."""
    states = _states(update.parameter, update.value.shape, update.training.rule)
    return [state for state in states if state.place[2] == FROZEN]


def _states(p: int, shape: Shape, rule: Rule) -> list[Value]:
    """The states of a parameter that a rule reads."""
    rows, cols = shape
    return [
        Value("", shape=(rows, cols if state.per == "element" else 1), place=("state", p, rule.key(state)))
        for state in rule.states
    ]


def _beside(p: int, shape: Shape, training: Training, scalars: Value) -> list[Value]:
    """The operands of an update that follow its gradient: states, scalars, clock."""
    beside = [*_states(p, shape, training.rule), scalars]
    if training.rule.catch_up is not None:
        beside.append(missed(p, shape, training.rule)[2])
    return beside


def lower_update(
    shapes: Sequence[Shape],
    training: Sequence[Training],
    dtype: str,
    kernels: frozenset[str],
    shards: int = 1,
    checked: bool = False,
) -> Program:
    """The program of an optimizer's step over the gradient buffers of parameters of these shapes.

    If it is ``checked``, its forward section computes the sum of the squares of all gradients: if that is not finite, there is
    no step; that is for one shard. If there are several ``shards``, each has gathered gradients in buffers of its own: they are
    merged first, in order. The buffers of shard s are numbered from ``s * len(shapes)``.
    """
    key = tuple(shapes), tuple(training), dtype, kernels, shards, checked
    return _CACHE.made(key, lambda: _lower_update(shapes, training, dtype, kernels, shards, checked))


def _lower_update(
    shapes: Sequence[Shape], training: Sequence[Training], dtype: str, kernels: frozenset[str], shards: int, checked: bool
) -> Program:
    k = Emitter(kernels)
    updates = Updates(k)
    for p, (shape, how) in enumerate(zip(shapes, training, strict=True)):
        gradients = [Value("", shape=shape, place=("gradient", p + s * len(shapes))) for s in range(shards)]
        for other in gradients[1:]:
            k.effect("merge_gradient", gradients[0], other)
        updates.add("update_gradient", p, Value("", shape=shape, place=("value", p)), how, gradients[0])
        updates.tick(p, shape, how)
    squares = updates.total_of_squares() if checked else None
    begin = len(k.values) if checked else 0
    updates.emit()
    return _program(k, list(shapes) * shards, dtype, updates, squares, begin)


def _program(
    k: Emitter, shapes: Sequence[Shape], dtype: str, updates: Updates, squares: Value | None = None, begin: int = 0
) -> Program:
    """A program of updates; of the calls, those before ``begin`` compute ``squares``, which have to be finite."""
    scheduled = updates.schedules
    results = [] if squares is None else [squares]
    sections = [k.values[:begin], k.values[begin:]]
    layout = Layout(dtype, sections, [*(value for value, _ in scheduled), *k.literals.values(), *results])
    forward, update = (instructions(layout, section) for section in sections)
    program = Program(
        "update",
        dtype,
        tuple(layout.buffers),
        layout.lengths[0],
        inputs=tuple(InputSlot("schedule", layout[value], rule=rule) for value, rule in scheduled),
        parameters=tuple(ParameterSlot(shape) for shape in shapes),
        literals=tuple((number, layout[value]) for number, value in k.literals.items()),
        forward=forward,
        update=update,
        outputs=tuple(layout[value] for value in results),
    )
    return sound.trusted(program)
