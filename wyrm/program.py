"""Programs: what the frontend hands to a backend, with nothing left to decide.

A :class:`Program` is a flat, immutable list of instructions over slots. An :class:`Instruction`
names a kernel of :data:`wyrm.kernels.KERNELS`, where its result goes and where its operands are. A :class:`Slot` is a matrix
inside a buffer: offset, row stride and shape, so that a slice or a transposed vector is a slot like any other.

What a backend author needs to know stands here, in :mod:`wyrm.backend` and in :mod:`wyrm.kernels`, the kernel table:

* the buffers a program runs over, :class:`Buffer`;
* the arithmetic of an optimizer, :class:`Rule`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from wyrm.kernels import Shape

__all__ = [
    "Attributes",
    "Buffer",
    "BufferKind",
    "CatchUp",
    "Chain",
    "InputSlot",
    "Instruction",
    "ParameterSlot",
    "Program",
    "Purpose",
    "Rule",
    "RuleStep",
    "Shape",
    "Slot",
    "State",
]

Attributes = tuple[tuple[str, Any], ...]
Purpose = Literal["interactive", "train", "accumulate", "evaluate", "update"]
BufferKind = Literal["real", "index", "bag", "value", "gradient", "state", "scalars", "clock", "row"]


# --- Slots and instructions -----------------------------------------------------------------------------------


class Buffer(NamedTuple):
    """A piece of memory that a program runs over, 64-byte aligned, allocated by the frontend.

    ``real`` is the program's own memory for values, in its dtype, and ``index`` for indices, in int64: a workspace has
    one of each, and a ``bag`` for each input of that kind. ``value`` and ``gradient`` belong to parameter ``number``; ``state``
    to the state ``name`` that a rule keeps for it, ``clock`` to the steps that its rows have seen; ``scalars`` to rule
    ``number`` of the program: learning rate and the like. ``row`` is no memory of its own: it is the row of ``table``, the
    buffer of a value or state, that the one index of input ``number`` names, where it stands.
    """

    kind: BufferKind
    number: int = 0
    name: str = ""
    table: Buffer | None = None


class Slot(NamedTuple):
    """A matrix inside a buffer: element (i, j) is ``buffer[offset + i * stride + j]``.

    A slot of a ``gradient`` buffer stands for the whole gradient of a parameter, dense or row-sparse.
    """

    buffer: int
    offset: int
    shape: Shape
    stride: int


class Instruction(NamedTuple):
    """One kernel applied to slots. Where ``accumulate`` is true, the result is added to what ``out`` holds.

    ``body`` has the instructions that a ``draw`` runs after each number drawn.
    """

    kernel: str
    out: Slot
    operands: tuple[Slot, ...]
    attributes: Attributes = ()
    accumulate: bool = False
    body: tuple[Instruction, ...] = ()

    @property
    def results(self) -> tuple[Slot, ...]:
        """Where results are stored: ``out``, and for a chain the first of the operands as well."""
        chain = dict(self.attributes).get("chain")
        return (self.out, *self.operands[: 0 if chain is None else len(chain.results) - 1])


class InputSlot(NamedTuple):
    """Where an input's value is to be before a program runs forward.

    ``dense``: real numbers, into the ``real`` buffer. ``index``: row numbers, into the ``index`` buffer, each at least 0
    and below ``limit``, the rows of the smallest table that it looks up. ``bag``: the same, any number of them, into a ``bag``
    buffer; the slot has a row for each bag. ``random``: a key of three words, seed, stream and step, into the ``index`` buffer.
    ``schedule``: numbers by the run's position, into the ``real`` buffer: the scalars of rule ``rule`` for the coming step; or,
    if ``rule`` is ``None``, the share of the run in its batch, which its gradients are multiplied with.
    """

    kind: Literal["dense", "index", "bag", "random", "schedule"]
    slot: Slot
    limit: int = 0
    rule: int | None = None


class ParameterSlot(NamedTuple):
    """A parameter of a program and how the program contributes to its gradient.

    ``gradient`` says what the backward pass does to the parameter's gradient buffer: nothing (``None``),
    adds a whole matrix (``dense``), or adds rows (``rows``): ``rows_per_pass`` of them in a pass, and as many as there are
    indices in each of the inputs ``bags``.
    """

    shape: Shape
    gradient: Literal["dense", "rows"] | None = None
    rows_per_pass: int = 0
    bags: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """A structure, lowered for a purpose.

    Attributes
    ----------
    purpose
        ``interactive``: every value kept, ``forward`` and ``backward`` run apart. ``train``: one run is a whole step, with
        its ``update``. ``accumulate``: as interactive, several runs an update. ``evaluate``: forward only. ``update``: an
        optimizer's step over gradient buffers, nothing else.
    dtype
        Of every real number: ``float32`` or ``float64``.
    buffers
        What :attr:`Slot.buffer` counts; 0 is ``real``, 1 is ``index``.
    real_length, index_length
        The lengths of these two, in elements.
    literals
        Constants of the program: value and place in the ``real`` buffer. No instruction writes there.
    seed
        Where ``backward`` puts its weight; ``None`` where nothing needs a gradient, or the weight is 1 by the purpose.
    forward, backward, update
        The instructions, to be run in this order.
    outputs
        The values of the roots: the loss of a training program, the results of an evaluating one.
    values
        The slot of each node of the traced structure whose value is kept, by its number in the trace.
    skip
        Of a training program: a number, computed by ``forward``, such that ``backward`` and ``update`` change no parameter
        and no state where it is not positive. A backend may pass over them then.
    look
        Of an interactive program for a backend that looks at gradients: a number, computed by ``backward``, that is NaN,
        infinite or above 2 ** 96 in size (in float64, 2 ** 768) if a contribution to a gradient is NaN or infinite, or very
        large; provided that the weight is between -1 and 1.
    """

    purpose: Purpose
    dtype: str
    buffers: tuple[Buffer, ...]
    real_length: int = 0
    index_length: int = 0
    inputs: tuple[InputSlot, ...] = ()
    parameters: tuple[ParameterSlot, ...] = ()
    literals: tuple[tuple[float, Slot], ...] = ()
    seed: Slot | None = None
    forward: tuple[Instruction, ...] = ()
    backward: tuple[Instruction, ...] = ()
    update: tuple[Instruction, ...] = ()
    outputs: tuple[Slot, ...] = ()
    values: dict[int, Slot] = field(default_factory=dict)
    skip: Slot | None = None
    look: Slot | None = None

    @property
    def instructions(self) -> list[Instruction]:
        """All of them, each followed by those of its body."""
        sections = (*self.forward, *self.backward, *self.update)
        return [i for instruction in sections for i in (instruction, *instruction.body)]

    def __str__(self) -> str:
        """The program as text, one instruction a line; those of a body are indented."""
        lines = [f"program for {self.purpose}, {self.dtype}, {self.real_length} reals, {self.index_length} indices"]
        lines += [f"  input {n}: {i.kind} {self._text(i.slot)}" for n, i in enumerate(self.inputs)]
        for title in ("forward", "backward", "update"):
            unless = f" where {self._text(self.skip)} > 0" if self.skip and title != "forward" else ""
            lines += [f"{title}{unless}:"] if getattr(self, title) else []
            for i in getattr(self, title):
                lines += [f"  {self._line(i)}", *(f"    {self._line(repeated)}" for repeated in i.body)]
        return "\n".join(lines)

    def _line(self, i: Instruction) -> str:
        operands = ", ".join(map(self._text, i.operands))
        attributes = "".join(f", {k}={getattr(v, 'name', v)}" for k, v in i.attributes)
        return f"{self._text(i.out)} {'+=' if i.accumulate else '='} {i.kernel}({operands}{attributes})"

    def _text(self, slot: Slot) -> str:
        buffer = self.buffers[slot.buffer]
        if buffer.table is not None:
            return f"{buffer.table.kind}[{buffer.table.number}{buffer.table.name}][index {buffer.number}]{slot.shape}"
        place = f"{slot.offset}" if buffer.kind in ("real", "index") else f"{buffer.number}{buffer.name}"
        return f"{buffer.kind}[{place}]{slot.shape}"


@dataclass(frozen=True)
class Chain:
    """What a ``fused`` instruction computes: elementwise kernels over registers, all of one shape.

    The registers are, in order: the operands that are read, each broadcast to the shape, and what the steps compute. The
    instruction's first operands are results, ``out`` the first of them: as many as ``results`` names registers. Results are
    stored when every step has read what it needs, because they may stand where an operand does.

    Beside the elementwise kernels there are the steps ``multiply_add``, a * b + c, ``multiply_subtract``, c - a * b, and
    ``copy``.

    Attributes
    ----------
    operands
        How many are read.
    steps
        Each computes the register after those before it.
    results
        The registers that are stored.
    guard
        The register of the loss: where it is NaN or infinite, it is the only result that is stored. ``None``: there is no such.
    """

    operands: int
    steps: tuple[tuple[str, tuple[int, ...]], ...]
    results: tuple[int, ...]
    guard: int | None = None

    def __str__(self) -> str:
        """The steps as text."""
        steps = [f"{self.operands + n}={kernel}{operands}" for n, (kernel, operands) in enumerate(self.steps)]
        guard = "" if self.guard is None else f" guard {self.guard}"
        return " ".join(steps).replace(", ", ",") + f" -> {self.results}{guard}"


# --- Update rules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """One quantity that an optimizer keeps for a parameter: for each ``element``, or one for each ``row``.

    One that is ``shared`` belongs to the parameter, whatever rule is applied to it, and no rule changes it.
    """

    name: str
    per: Literal["element", "row"] = "element"
    initial: float = 0.0
    shared: bool = False


@dataclass(frozen=True)
class RuleStep:
    """One elementwise kernel over the registers of a rule, or ``row_mean``: the mean of a register over the row."""

    kernel: str
    out: int
    operands: tuple[int, ...]


class CatchUp(NamedTuple):
    """What a step does to a row that it does not touch: see :mod:`wyrm.clocks`.

    ``rate``, ``decay`` and ``momentum`` are numbers of the rule's scalars, ``state`` that of the velocity among its states;
    ``None``: the rule has none.
    """

    rate: int
    decay: int | None = None
    momentum: int | None = None
    state: int | None = None


@dataclass(frozen=True)
class Rule:
    """An optimizer's arithmetic on one row of a parameter, as a short program over registers.

    The registers are, in order: the value (0), the gradient (1), the states, the scalars, the literals, and
    what the steps compute. ``results`` names the registers that the value and each state take in the end. A whole matrix is
    updated row by row; so a purely elementwise rule may treat it as one long row. Rules compare and hash by what
    they compute: a backend may recognise one and run code of its own for it.

    ``catch_up`` says what steps do to a row that they do not touch; ``None``: nothing. A rule that has one comes with a clock.
    """

    name: str
    states: tuple[State, ...]
    scalars: tuple[str, ...]
    literals: tuple[float, ...]
    steps: tuple[RuleStep, ...]
    results: tuple[int, ...]
    catch_up: CatchUp | None = None

    @property
    def by_element(self) -> bool:
        """Whether what happens to an element depends on that element alone, so that a matrix may be taken as one long row."""
        rows = any(state.per == "row" for state in self.states) or any(step.kernel == "row_mean" for step in self.steps)
        return not rows and self.catch_up is None

    def key(self, state: State) -> str:
        """The name under which a parameter keeps a state."""
        return state.name if state.shared else f"{self.name}.{state.name}"

    @property
    def registers(self) -> int:
        """How many registers there are."""
        return 2 + len(self.states) + len(self.scalars) + len(self.literals) + len(self.steps)
