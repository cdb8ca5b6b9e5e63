"""Programs and memory that nobody may run: what would leave its buffers is refused, and names what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

import wyrm
from wyrm.memory import GradientBuffer, Memory, Source
from wyrm.program import Buffer, InputSlot, Instruction, ParameterSlot, Program, Slot
from wyrm_conformance.check import Context, check

__all__: list[str] = []

#: A table of 7 rows of 3 and what an optimizer keeps of it; two rows are looked up, and multiplied with what is given.
_ROWS, _COLUMNS = 7, 3


def _program(dtype: str, **changes: Any) -> Program:
    """A sound program, or one that was changed: its instruction's result or operand, its input's limit or its length."""
    shape, length = (2, _COLUMNS), changes.get("length", 12)
    index, given, out = Slot(1, 0, (2, 1), 1), Slot(0, 0, shape, _COLUMNS), Slot(0, 6, shape, _COLUMNS)
    table = Slot(2, 0, (_ROWS, _COLUMNS), _COLUMNS)
    gather = Instruction("gather", changes.get("out", out), (table, changes.get("index", index)))
    multiply = Instruction("multiply", out, (changes.get("operand", given), Slot(3, 0, (1, 3), 3)), accumulate=True)
    return Program(
        "evaluate",
        dtype,
        (Buffer("real"), Buffer("index"), Buffer("value"), Buffer("state", 0, "kept")),
        real_length=length,
        index_length=2,
        inputs=(InputSlot("dense", given), InputSlot("index", index, changes.get("limit", _ROWS))),
        parameters=(ParameterSlot((_ROWS, _COLUMNS)),),
        forward=(gather, multiply),
        outputs=(out,),
    )


def _unsound(dtype: str) -> Iterator[tuple[str, str, Program]]:
    """What is wrong, a word that the error must have, and the program."""
    shape = (2, _COLUMNS)
    yield "a result behind its buffer", "gather", _program(dtype, out=Slot(0, 7, shape, _COLUMNS))
    yield "a result in no buffer", "gather", _program(dtype, out=Slot(9, 0, shape, _COLUMNS))
    yield "an operand before its buffer", "multiply", _program(dtype, operand=Slot(0, -1, shape, _COLUMNS))
    yield "an operand whose stride leads out", "multiply", _program(dtype, operand=Slot(0, 0, shape, 1 << 50))
    yield "more indices than there are", "gather", _program(dtype, index=Slot(1, 1, (2, 1), 1))
    yield "real numbers as indices", "gather", _program(dtype, index=Slot(0, 0, (2, 1), 1))
    yield "indices beyond the table", "gather", _program(dtype, limit=_ROWS + 1)
    yield "a buffer that is too short", "", _program(dtype, length=11)


def _buffers(dtype: str) -> list[Any]:
    program = _program(dtype)
    return [*Memory.own(program), np.ones((_ROWS, _COLUMNS), dtype), np.ones((_ROWS, _COLUMNS), dtype)]


def _short(dtype: str) -> Iterator[tuple[str, list[Any]]]:
    """What is wrong with memory, and its buffers."""
    for number, what, buffer in (
        (0, "real numbers", np.zeros(11, dtype)),
        (0, "what is to be written", _read_only(np.zeros(12, dtype))),
        (1, "indices", np.zeros(1, np.int64)),
        (1, "indices of 32 bits", np.zeros(2, np.int32)),
        (2, "a value", np.ones((_ROWS - 1, _COLUMNS), dtype)),
        (2, "a value with gaps", np.ones((_ROWS, 2 * _COLUMNS), dtype)[:, ::2]),
        (2, "a value of half precision", np.ones((_ROWS, _COLUMNS), np.float16)),
        (2, "a gradient in the place of a value", GradientBuffer((_ROWS, _COLUMNS), dtype)),
        (3, "a state", np.ones((1, 2), dtype)),
    ):
        buffers = _buffers(dtype)
        buffers[number] = buffer
        yield what, buffers
    yield "buffers", _buffers(dtype)[:-1]


def _read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


def _refused(context: Context, what: str, word: str, attempt: Callable[[], Any]) -> None:
    try:
        attempt()
    except wyrm.ProgramError as error:
        context.require(
            f"the error about {what} says what was expected: {error}", "expected" in str(error) and word in str(error)
        )
    else:
        raise context.failure(f"{what}: accepted, though native code would leave its memory")


@check(
    "contract/unsound programs",
    "core",
    "programs that would leave their buffers are refused as they are compiled, memory that is too short as it is bound",
    at_least=40,
)
def check_unsound(context: Context) -> None:
    """A sound program runs; changed in one place, it is refused by name; so is memory, and a feed, that does not fit."""
    backend = context.backend
    for dtype in context.dtypes:
        executable = backend.compile(_program(dtype))
        sources = [Source(np.ones((4, 6), dtype)), Source(np.full((4, 2), _ROWS - 1, np.int64))]
        memory = Memory(executable.program, _buffers(dtype))
        order = np.array([[3]])
        context.require("what is sound runs", executable.bind_feed(memory, sources).run(order, 0, 1) == 0)
        context.compare("its result", memory.buffers[0][6:], np.full(6, 2.0), 1e-6)
        for what, word, program in _unsound(dtype):
            _refused(context, what, word, partial(backend.compile, program))
        for what, buffers in _short(dtype):
            wrong = Memory(executable.program, buffers)
            _refused(context, f"too little of {what}", "memory", partial(executable.bind, wrong, (0, 1)))
            _refused(context, f"too little of {what}", "memory", partial(executable.bind_feed, wrong, sources))
        for number, narrow in ((0, np.ones((4, 5), dtype)), (1, np.ones((4, 1), np.int64)), (1, np.ones((4, 2), np.float32))):
            fed: Sequence[Source] = [Source(narrow) if n == number else source for n, source in enumerate(sources)]
            _refused(context, "a feed", f"source {number}", partial(executable.bind_feed, memory, fed))
        _refused(context, "a feed of one source", "feed", partial(executable.bind_feed, memory, sources[:1]))
