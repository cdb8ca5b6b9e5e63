"""What lowering makes once and uses again: pieces between draws, the words of chains, structures, memory."""

import numpy as np
import pytest
from test_lowering import ALL

import wyrm
from wyrm import nn
from wyrm.frontend.lowering import fuse, pieces
from wyrm.frontend.lowering import lower as lowering
from wyrm.frontend.lowering.gaps import Gaps
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.structure import STORE
from wyrm.kernels import broadcast_shapes
from wyrm.native_code import Code
from wyrm.optim import SGD
from wyrm.program import Buffer, Chain, Instruction, Program, Slot


def ranked_sequence(length, width, crossed):
    """A trace that draws for each position; every third one is ranked by another formula, and may read the one before."""
    items, scale = wyrm.ParameterNode(np.zeros((20, width))), wyrm.ParameterNode(np.zeros((1, width)))
    chosen = [items.index(wyrm.IndexInputNode(1)) for _ in range(length)]
    state, losses = chosen[0], []
    for n, item in enumerate(chosen[1:]):
        state = item + scale.sigmoid() * (state - item)
        state = state * item if n % 3 == 2 else state
        drawn = wyrm.SampledIndexNode(20)
        positive = state.vector_dot(item) * (losses[-1] if crossed and losses else 1.0)
        loss = nn.losses.warp(positive, state.vector_dot(items.index(drawn)), drawn, tries=3, by_rank=n % 2 == 0)
        losses.append(loss.tanh() if n % 3 == 1 else loss)
    return trace([wyrm.stack(losses).scalar_sum()._structure])[0]


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("width", [1, 4])
def test_pieces_between_draws_are_fused_as_if_each_were_the_first(monkeypatch, width, crossed):
    traces = [ranked_sequence(length, width, crossed) for length in range(2, 9)]
    training = (Training(SGD.rule(frozenset({"learning_rate"})), 0),) * 2
    found = []
    for known in (True, False):
        pieces._KNOWN.clear()
        if not known:
            monkeypatch.setattr(pieces, "_form", lambda piece, needed: None)
        lowering._CACHE.clear()
        purposes = [("train", training), ("evaluate", ())]
        found.append([lowering.lower(t, purpose, ALL, how) for t in traces for purpose, how in purposes])
        assert bool(pieces._KNOWN) == known
    assert list(map(str, found[0])) == list(map(str, found[1]))


def test_pieces_are_alike_where_they_are_fused_alike(rng):
    """Pieces of few kernels and operands, many of which nearly are alike."""
    pieces._KNOWN.clear()
    found = [Value("", shape=shape, place=("input", n)) for n, shape in enumerate(((1, 1), (1, 4), (1, 4)))]
    found += [Value("", shape=(1, 4), place=("input", 1)), Value("gather", (), {}, (1, 4))]

    def described(calls, piece):
        names = {value: n for n, value in enumerate(piece)}

        def name(value):
            return names.get(value, id(value) if value.kernel else value.place)

        return [
            (call.kernel, name(call), call.shape, *map(name, call.operands))
            if call in names
            else (call.attributes["chain"], call.shape, *map(name, (*call.attributes["results"], *call.operands)))
            for call in calls
        ]

    for _ in range(2000):
        piece, values = [], found[: rng.integers(1, len(found) + 1)]
        for _ in range(rng.integers(2, 5)):
            kernel = ("tanh", "multiply", "sum")[rng.integers(3)]
            operands = [values[n] for n in rng.integers(len(values), size=2 if kernel == "multiply" else 1)]
            shape = (1, 1) if kernel == "sum" else broadcast_shapes(*(operand.shape for operand in operands))
            piece.append(Value(kernel, tuple(operands), {}, shape))
            values += [piece[-1], *([Value("view", (piece[-1],), {}, shape)] if rng.random() < 0.3 else [])]
        needed = {value for value in piece if rng.random() < 0.2}
        expected = described(fuse.fused(piece, needed), piece)
        assert described(pieces.fused_alike(piece, needed, fuse.fused), piece) == expected


def test_chains_that_are_alike_are_one_object():
    texts = []
    for _ in range(2):
        w, x = wyrm.ParameterNode(np.zeros((1, 3))), wyrm.InputNode((1, 3))
        lowering._CACHE.clear()
        program = lowering.lower(trace([((w * x).tanh() + x)._structure])[0], "interactive", ALL)
        texts.append([dict(i.attributes)["chain"] for i in program.instructions if i.kernel == "fused"])
    assert len(texts[0]) > 0
    assert all(a is b for a, b in zip(*texts, strict=True))
    fuse._chain.cache_clear()


def test_the_words_of_chains_of_one_element_follow_from_which_slots_meet(rng):
    """A chain laid out after others like it has the words that it has alone."""
    tables = Buffer("value", 0), Buffer("value", 1)
    rows = [Buffer("row", n, table=tables[n // 2]) for n in range(3)]
    buffers = Buffer("real"), Buffer("index"), *tables, *rows
    chains = [Chain(2, (("add", (0, 1)), ("multiply", (2, 0))), (2, 3), guard) for guard in (None, 2)]
    slots = [Slot(buffer, offset, (1, 1), 1) for buffer, offset in ((0, 0), (0, 4), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0))]
    instructions = []
    for n in range(500):
        stored, read = rng.choice(len(slots), 2, replace=False), rng.choice(len(slots), 2)
        out, *operands = (slots[place] for place in (*stored, *read))
        instructions.append(Instruction("fused", out, tuple(operands), (("chain", chains[n % 2]),)))

    def code(*several):
        program = Program("update", "float32", buffers, 8, update=several)
        return Code(
            program, lambda i, dtype: 7, lambda word, dtype: word, lambda instruction: instruction, lambda rule, dtype: 0
        )

    together, at = code(*instructions), 0
    for instruction in instructions:
        alone = code(instruction)
        size = len(alone.words)
        mine = (together.places >= at) & (together.places < at + size)
        own = alone.buffers == 2 * len(buffers)  # addresses of the words themselves
        words = alone.words.copy()
        words[alone.places[own]] += 8 * at
        np.testing.assert_array_equal(together.words[at : at + size], words)
        np.testing.assert_array_equal(together.places[mine] - at, alone.places)
        np.testing.assert_array_equal(together.buffers[mine], alone.buffers)
        at += size
    assert len(together._steps) < 3 / 4 * len(instructions)


def test_memory_is_handed_out_once(rng):
    """Pieces never overlap and are aligned; each takes the smallest gap that it fits into, the oldest of these."""
    memory, taken = Gaps(), {}
    gaps = []  # as the class keeps them, by plain search: where each starts, and its size

    def expected(size, align):
        fitting = [gap for gap in gaps if gap[1] - -gap[0] % align >= size]
        return min(fitting, key=lambda gap: gap[1], default=None)

    for _ in range(2000):
        if taken and rng.random() < 0.5:
            start = list(taken)[rng.integers(len(taken))]
            size = taken.pop(start)
            memory.give_back(start, size)
            beside = [gap for gap in gaps if gap[0] + gap[1] == start or gap[0] == start + size]
            gaps = [gap for gap in gaps if gap not in beside]
            begin = min([start, *(gap[0] for gap in beside)])
            gaps.append((begin, size + sum(gap[1] for gap in beside)))
            continue
        align = int(rng.choice([1, 4, 16]))
        size = align * int(rng.integers(1, 5))
        gap, end = expected(size, align), memory.length
        start = memory.take(size, align)
        assert start % align == 0
        if gap is None:
            assert start == end + -end % align
            gap = end, start + size - end
        else:
            assert start == gap[0] + -gap[0] % align
            gaps.remove(gap)
        for begin, stop in ((gap[0], start), (start + size, sum(gap))):
            if stop > begin:
                gaps.append((begin, stop - begin))
        assert all(start + size <= other or other + length <= start for other, length in taken.items())
        taken[start] = size


def test_structures_are_shared_between_sequences_of_nearly_the_same_length():
    table, weights = wyrm.ParameterNode(np.ones((9, 2))), wyrm.ParameterNode(np.ones((2, 2)))
    new = []

    def total(items):
        before = len(STORE)
        state = np.zeros((1, 2))
        for item in items:
            state = (table.index(item) + state) @ weights
        new.append(len(STORE) - before)
        return state.scalar_sum()

    sequences = [[0] * length for length in (8, 7, 5)]
    wyrm.evaluate(total, {"items": wyrm.Ragged.of(sequences)}, backend="reference")
    assert sum(new) == 1 + 3 * 8  # the constant, and what the longest is made of
