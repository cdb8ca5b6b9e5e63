"""The backend contract: all that the author of a backend reads, together with the kernel table of :mod:`wyrm.program`.

A backend turns a :class:`Program` into an :class:`Executable` and runs it. It knows nothing of derivatives, nodes or
optimizers, and nothing of other backends. There are two ways to write one:

*Kernels only*: subclass :class:`wyrm.kernel_backend.KernelBackend` and give it a table of NumPy-style functions, one for
each required kernel. It supplies execution, sparse gradients, updates and the runner. About a hundred lines.

*Native*: subclass :class:`Backend` and write :meth:`Backend.compile`. For code that finds everything at addresses
there is :mod:`wyrm.native`, which lays a program out as a table of integers.

What runners do over a feed, several programs and batches among them, is in :mod:`wyrm.runs`.

A backend is made known by a plugin: a light module, named as an entry point in the group ``wyrm``, whose
``wyrm_backend`` hook returns a :class:`Declaration`::

    import wyrm.backend
    from wyrm.hookspecs import hookimpl

    def load():
        from my_package.backend import MyBackend       # heavy imports happen here, not before
        return MyBackend()

    @hookimpl
    def wyrm_backend():
        return wyrm.backend.Declaration(name="mine", load=load, contract=(2, 2))

What a declaration says is tested by the conformance suite; what it does not say is refused before anything runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.clocks import Clock
from wyrm.errors import BackendError, CapabilityError
from wyrm.kernels import KERNELS, Kernel
from wyrm.leaves import Leaves
from wyrm.memory import BagBuffer, BagSource, GradientBuffer, Memory, Report, Sink, Source
from wyrm.program import Instruction, Program, Rule, Slot
from wyrm.runs import JoinedRunner, Order, Runner, Team
from wyrm.sound import require_sound
from wyrm.sound_parts import kernels_of
from wyrm.turns import AtOnce

__all__ = [
    "CONTRACT_VERSION",
    "KERNELS",
    "AtOnce",
    "Backend",
    "BagBuffer",
    "BagSource",
    "Capabilities",
    "Clock",
    "Declaration",
    "Executable",
    "Exemption",
    "GradientBuffer",
    "Instruction",
    "JoinedRunner",
    "Kernel",
    "Leaves",
    "Memory",
    "Order",
    "Pass",
    "Program",
    "Report",
    "Rule",
    "Runner",
    "Sink",
    "Slot",
    "Source",
    "Team",
]

#: The version of this contract. A backend declares the range of versions that it is built for.
CONTRACT_VERSION = 2


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do, as data.

    Attributes
    ----------
    dtypes
        Of real numbers: ``float32`` is expected of every backend, ``float64`` is optional.
    kernels
        The optional kernels that it has; the frontend expands the others.
    schedules
        How it lets several threads train: ``hogwild``, runners that share parameters without locks (which ``conflict_free``
        needs as well); ``synchronized``, teams whose threads work at the same time.
    releases_gil
        Whether passes and runs leave other Python threads free to work.
    """

    dtypes: frozenset[str] = frozenset({"float32"})
    kernels: frozenset[str] = frozenset()
    schedules: frozenset[str] = frozenset({"hogwild"})
    releases_gil: bool = False


@dataclass(frozen=True)
class Exemption:
    """What a backend says of a check of the conformance suite that it does not pass as it stands; every report shows it.

    Attributes
    ----------
    reason
        In a sentence.
    factor
        By which the bounds of the check are multiplied; ``None``: the check is expected to fail. An exemption that turns out
        not to be needed is an error.
    """

    reason: str
    factor: float | None = None


@dataclass(frozen=True)
class Declaration:
    """What a plugin says of its backend, without loading it.

    Attributes
    ----------
    name
        By which users choose it.
    load
        Returns the backend; called once, when it is first needed.
    contract
        The first and the last contract version that it is built for.
    version
        Of the package.
    priority
        With no backend chosen, the highest priority is taken. The NumPy reference has 0.
    capabilities
        What it can do.
    variants
        Ways to run the same backend that deserve testing one by one, such as instruction sets: the environment variables
        of each, by its name.
    exemptions
        From checks of the conformance suite, by the check's name.
    """

    name: str
    load: Callable[[], Backend]
    contract: tuple[int, int]
    version: str = ""
    priority: int = 0
    capabilities: Capabilities = field(default_factory=Capabilities)
    variants: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    exemptions: Mapping[str, Exemption] = field(default_factory=dict)


class Pass(ABC):
    """A program bound to buffers, for a caller who drives each pass.

    Both methods return 0, or a status of :class:`Report` after filling the report of the memory they are bound to. A pass
    that fails so has changed nothing but the workspace.
    """

    #: Whether what :meth:`attached` returns sees by itself to :attr:`GradientBuffer.busy`, and returns
    #: ``wyrm.gradient_use.IN_USE``, and to :attr:`Memory.adopted`, and returns ``wyrm.borrowed.CHANGED``; if not, Wyrm does so
    #: around it.
    guards_memory = False

    @abstractmethod
    def forward(self, leaves: Leaves) -> int:
        """Load the inputs from their cells and run ``forward``; for an ``update`` program, run ``update`` then.

        Of an ``update`` program that has an output, it is looked at in between: if it is NaN or infinite, the status is
        ``NOT_FINITE``, and nothing is updated. If no gradient is in doubt, and ``update`` reads nothing of it, ``forward`` need
        not be run.
        """

    @abstractmethod
    def backward(self, weight: float) -> int:
        """Run ``backward`` for the values of the last forward pass, from ``weight`` times the gradient of the root.

        The contributions are added to the gradient buffers, and their headers say so. If the program has a ``look``, which is
        for backends that declare it (:attr:`Backend.looks_at_gradients`), and that is NaN or too large then, or the weight is
        not between -1 and 1, the headers say that the gradients are in doubt.
        """

    def attached(self, leaves: Leaves) -> tuple[Callable[[], int], Callable[[float], int]]:
        """``forward`` for these leaves and ``backward``, as functions that are called often: native ones where you can."""
        return partial(self.forward, leaves), self.backward

    def at_once(self, leaves: Leaves) -> AtOnce | None:
        """The same for what every step calls, and what reads values: native functions that see to whether they may begin.

        What they do is said by :func:`wyrm.turns.at_once`, which is what Wyrm does for a backend that has ``None``. Asked for
        after :meth:`attached`.
        """
        return None


class Executable(ABC):
    """A compiled program. It holds no data and may be used by several threads at once."""

    def __init__(self, program: Program) -> None:
        require_sound(program)
        self.program = program

    @abstractmethod
    def bind(self, memory: Memory, cells: Sequence[int] = ()) -> Pass:
        """Bind to buffers, for passes; ``cells[n]`` is the cell in which input n stands."""

    @abstractmethod
    def bind_feed(self, memory: Memory, sources: Sequence[Source], sinks: Sequence[Sink] = (), examples: int = 1) -> Runner:
        """Bind to buffers and a feed, for runs; ``sources`` are in the order of the inputs, ``sinks`` of the outputs.

        A run takes so many ``examples``: the values of an input are theirs, one after the other, and so are those of an output.
        Without sinks, outputs are not kept beyond :attr:`Runner.loss`.
        """


class Backend(ABC):
    """What a plugin's ``load`` returns."""

    #: Set when the backend is loaded.
    declaration: Declaration
    #: Whether passes see to :attr:`Program.look`, and say in the headers of gradients whether these are in doubt.
    looks_at_gradients = False

    @property
    def name(self) -> str:
        """As declared."""
        return self.declaration.name

    @property
    def capabilities(self) -> Capabilities:
        """As declared."""
        return self.declaration.capabilities

    def examine(self) -> None:  # noqa: B027 - nothing has to be examined
        """Find out whether the backend can work with this Wyrm; called once, when it has been loaded.

        Raises
        ------
        BackendError
            If it cannot, with the reason and what to do.
        """

    def details(self) -> Mapping[str, str]:
        """What reports should say of the backend as it was loaded, such as the instruction set in use."""
        return {}

    @abstractmethod
    def compile(self, program: Program) -> Executable:
        """Turn a program, which asks for declared capabilities only, into an executable."""

    def join(self, parts: Sequence[Runner], update: Runner | None = None, batch_size: int = 1) -> JoinedRunner:
        """One runner made of several of this backend's; override it to change between them in native code."""
        return JoinedRunner(parts, update, batch_size)

    def team(self, shards: Sequence[JoinedRunner], update: Runner, batch_size: int, num_threads: int) -> Team:
        """A team of threads; override it to let them work at the same time."""
        return Team(shards, update, batch_size, num_threads)

    def setter(
        self, leaves: Leaves, number: int, limit: int | None = None, held: npt.NDArray[np.int64] | BagSource | None = None
    ) -> Callable[[Any], bool] | None:
        """A function that sets the input in a cell to a value, and returns whether it did; ``None``: Wyrm does so in Python.

        It does if the value is of the plainest kind, and the thread that calls is the one that may set inputs at once
        (:mod:`wyrm.turns`); then it dates the cell, too. For everything else it changes nothing and raises nothing.

        Parameters
        ----------
        leaves, number
            The cell.
        limit
            What row numbers are below; ``None``: the cell holds a real number.
        held
            The row numbers that the cell points to, as many as there are to be, or one bag with room for any; without, they are
            one number in the cell itself. A value is a list of whole numbers then.
        """
        return None

    def check(self, program: Program) -> None:
        """Refuse a program that asks for what the backend does not declare, or that is not sound (:mod:`wyrm.sound`).

        To be called by :meth:`compile` before it looks at the program; an :class:`Executable` sees to the second again.

        Raises
        ------
        CapabilityError
            Naming the backend and what it lacks.
        ProgramError
            Naming the instruction, the operand, what was expected and what came.
        """
        names = kernels_of(program)
        if program.dtype not in self.capabilities.dtypes:
            known = ", ".join(sorted(self.capabilities.dtypes))
            raise CapabilityError(
                f"backend {self.name!r} does not compute in {program.dtype}; it declares {known}. "
                f"Use these dtypes for the graph's parameters, or another backend"
            )
        for name in names:
            kernel = KERNELS.get(name)
            if kernel is None:
                raise BackendError(f"the program uses {name!r}, which is not in the kernel table")
            if kernel.optional and kernel.name not in self.capabilities.kernels:
                raise CapabilityError(f"backend {self.name!r} does not declare the optional kernel {kernel.name!r}")
        require_sound(program)
