"""Programs that would leave their buffers are refused, by name, before anything runs; those of the frontend never are."""

import numpy as np
import pytest

import wyrm
import wyrm.sound
from tests.fuzz.programs import MODELS, changed, found_at, memory_of, programs, run
from wyrm.errors import ProgramError
from wyrm.kernels import KERNELS
from wyrm.memory import Memory
from wyrm.program import Instruction, Program, Slot
from wyrm.selection import get_backend


def first(model, wanted):
    """A program of a model, and the place of its first instruction of a kernel."""
    for program in programs(model, "reference"):
        for title in ("forward", "backward", "update"):
            for number, instruction in enumerate(getattr(program, title)):
                if instruction.kernel == wanted:
                    return program, (title, number)
    raise LookupError(wanted)


def refused(program):
    with pytest.raises(ProgramError) as caught:
        wyrm.sound.require_sound(program)
    return str(caught.value)


@pytest.mark.parametrize("model", MODELS)
def test_what_the_frontend_makes_runs(model, backend):
    for program in programs(model, backend):
        run(program, backend)


@pytest.mark.parametrize(
    ("model", "kernel", "place", "new"),
    [
        ("dense", "matmul", (1, 1), 1 << 20),  # beyond the memory
        ("dense", "matmul", (1, 1), -1),
        ("dense", "matmul", (1, 1), 1.0),
        ("dense", "matmul", (1, 1), True),
        ("dense", "matmul", (1, 0), 99),
        ("dense", "matmul", (1, 3), 1 << 62),
        ("dense", "matmul", (1, 2), (1 << 40, 1 << 40)),
        ("dense", "matmul", (2, 0, 2), (1, 2)),
        ("dense", "matmul", (2,), ()),
        ("dense", "matmul", (3,), (("transpose_c", True),)),
        ("dense", "matmul", (3,), (("transpose_a", 1),)),
        ("dense", "matmul", (0,), "no kernel"),
        ("dense", "matmul", (5,), (None,)),
        ("rows", "gather", (2, 1, 0), 0),  # indices that are real numbers
        ("rows", "gather", (2, 1, 2), (3, 1)),
        ("rows", "accumulate_rows", (1, 2), (5, 3)),  # not the whole gradient
        ("rows", "accumulate_rows", (2, 1, 2), (1, 3)),
        ("bags", "gather_bag", (2, 1, 2), (2, 1)),
        ("rows", "update_gradient", (3,), ()),
        ("rows", "update_gradient", (2,), ()),
    ],
)
def test_an_instruction_is_refused_by_name(model, kernel, place, new):
    program, where = first(model, kernel)
    message = refused(changed(program, (*where, *place), new))
    assert "expected" in message and "got" in message
    if place != (0,):
        assert f"{where[0]}, instruction {where[1]} ({kernel!r})" in message


def test_what_is_equal_is_not_taken_for_what_was_looked_at():
    """1.0 equals 1, and a list is no tuple, though an instruction like it was right before."""
    program, (title, number) = first("dense", "matmul")
    wyrm.sound.require_sound(program)
    slot = found_at(program, (title, number, 1))
    alike = slot._replace(offset=float(slot.offset))
    assert alike == slot
    assert "offset" in refused(changed(program, (title, number, 1), alike))
    assert "tuple" in refused(changed(program, (title,), list(getattr(program, title))))


def test_indices_are_within_the_table():
    program, _ = first("rows", "gather")
    (number,) = [n for n, given in enumerate(program.inputs) if given.kind == "index"]
    assert "numbers below 6" in refused(changed(program, ("inputs", number, 2), 7))


def test_bags_are_within_the_table():
    program, _ = first("bags", "gather_bag")
    (number,) = [n for n, given in enumerate(program.inputs) if given.kind == "bag"]
    assert "numbers below 6" in refused(changed(program, ("inputs", number, 2), 7))


def test_no_more_rows_are_added_than_there_is_room_for():
    program, (title, number) = first("rows", "accumulate_rows")
    again = getattr(program, title)[number]
    assert "rows_per_pass" in refused(changed(program, (title,), (*getattr(program, title), again)))


def test_two_inputs_do_not_fill_the_same_indices():
    program, _ = first("sequence", "gather") if _has("sequence", "gather") else first("rows", "gather")
    index = next(given for given in program.inputs if given.kind == "index")
    assert "one input or draw fills" in refused(changed(program, ("inputs",), (*program.inputs, index)))


def _has(model, kernel):
    return any(i.kernel == kernel for program in programs(model, "reference") for i in program.instructions)


def test_every_kernel_says_what_its_indices_are_below():
    for kernel in KERNELS.values():
        told = kernel.within is not None or kernel.name in ("lookup", "draw")
        assert told == ("index" in kernel.operands or "bag" in kernel.operands or kernel.name == "draw"), kernel.name
        assert kernel.elementwise or kernel.shape is not None or kernel.fits is not None, kernel.name


def test_indices_of_a_smaller_table_are_refused():
    program, (title, number) = first("rows", "gather")
    smaller = found_at(program, (title, number, 1))
    assert "numbers below" in refused(changed(program, (title, number, 2, 0), smaller))


def bound(program, backend, number, buffer):
    """The program bound to memory with another buffer in one place."""
    memory = memory_of(program)
    buffers = list(memory.buffers)
    buffers[number] = buffer
    return get_backend(backend).compile(program).bind(Memory(program, buffers), range(len(program.inputs)))


@pytest.mark.parametrize("kind", ["real", "value", "state", "scalars", "gradient"])
def test_memory_that_is_too_short_is_refused(backend, kind):
    """How long states and scalars are is not in the program."""
    program = next(
        p for p in programs("rows", backend) if any(b.kind == kind for b in p.buffers) and p.purpose != "interactive"
    )
    number = next(n for n, buffer in enumerate(program.buffers) if buffer.kind == kind)
    for other in (np.zeros((1, 0), program.dtype), np.zeros((6, 3), np.int32), None):
        with pytest.raises(ProgramError, match=f"buffer {number} \\({kind}\\) of the memory"):
            bound(program, backend, number, other)


def test_scalars_are_as_long_as_the_program_reads(backend):
    program = next(p for p in programs("rows", backend) if any(b.kind == "scalars" for b in p.buffers))
    number = next(n for n, buffer in enumerate(program.buffers) if buffer.kind == "scalars")
    title, place, operand = next(
        (title, n, m)
        for title in ("forward", "update")
        for n, instruction in enumerate(getattr(program, title))
        for m, slot in enumerate(instruction.operands)
        if slot.buffer == number
    )
    further = changed(program, (title, place, 2, operand, 1), 1000)
    with pytest.raises(ProgramError, match="at least 100[12] elements"):
        run(further, backend)


def test_aliases_are_numbers_that_there_are(backend):
    """A table whose entries all stand for the largest number that 32 bits have: the last row is taken instead."""
    for program in programs("draws", backend):
        tables = [b for b in memory_of(program).buffers[2:] if isinstance(b, np.ndarray) and b.dtype == np.int64]
        assert [np.unique(table).tolist() for table in tables] == [[-1]]
        run(program, backend)


def test_a_part_of_a_row_is_a_result(backend):
    """A row that is looked up where it stands has no place of its own: what is read of it is a copy."""
    table, index = wyrm.ParameterNode(np.arange(54.0).reshape(6, 9)), wyrm.IndexInputNode()
    for node, wanted in ((table.index(index)[0:1, 4:9], (1, 5)), (table.index(index).t(), (9, 1))):
        (values,) = wyrm.evaluate([node], {index: [5, 2]}, backend=backend)
        expected = np.arange(54.0).reshape(6, 9)[[5, 2]][:, 4:9] if wanted == (1, 5) else np.arange(54.0).reshape(6, 9)[[5, 2]]
        np.testing.assert_array_equal(values.reshape(expected.shape), expected)


def test_the_update_of_a_structure_names_parameters_that_others_have(backend):
    """A step of one structure counts steps for parameters that it has not got: the program says how large they are."""
    table, bias = wyrm.ParameterNode(np.ones((5, 2))), wyrm.ParameterNode(0.5)

    def loss(words, y):
        return (sum((table.index(word).scalar_sum() for word in words), start=bias) - y).square()

    feed = {"words": wyrm.Ragged([1, 2, 3], [0, 0, 2, 3]), "y": np.ones(3)}
    wyrm.fit(loss, feed, wyrm.optim.SGD(0.05, [table, bias], momentum=0.9, weight_decay=0.1), seed=1)
    assert np.isfinite(table.value).all()


class Blind(wyrm.backend.Backend):
    """A backend of somebody else, which looks at nothing."""

    def compile(self, program):
        return _Executable(program)


class _Executable(wyrm.backend.Executable):
    def bind(self, memory, cells=()):
        raise AssertionError("bound")

    def bind_feed(self, memory, sources, sinks=(), examples=1):
        raise AssertionError("bound")


def test_no_backend_has_to_look():
    slot = Slot(0, 9, (1, 1), 1)
    program = changed(programs("dense", "reference")[0], ("forward",), (Instruction("exp", slot, (slot,)),))
    program = changed(program, ("real_length",), 1)
    assert isinstance(program, Program)
    with pytest.raises(ProgramError):
        Blind().compile(program)


def test_a_program_is_looked_at_once(monkeypatch):
    program = programs("dense", "reference")[0]
    wyrm.sound.require_sound(program)
    monkeypatch.setattr(wyrm.sound, "_Program", None)
    wyrm.sound.require_sound(program)
