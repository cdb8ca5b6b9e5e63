"""Chains by interpretation, for programs that do not run often enough for code of their own.

The words behind the operands are explained in :mod:`wyrm.native`.
"""

import math
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from wyrm.native_chains import CHAIN_OPCODES, OPCODES
from wyrm_numba.arithmetic import Numbers
from wyrm_numba.kernels import elements
from wyrm_numba.options import inlined
from wyrm_numba.vectors import lanes, load_part, many, room, store_part
from wyrm_numba.words import load, row, store, word

#: The frontend makes no chain of more operands, results and steps.
REGISTERS = 5 * 24
GUARD, END = CHAIN_OPCODES["guard"], CHAIN_OPCODES["end"]
#: Bytes of a step, and of a step of a chain of one element, whose codes say how it finds its operands, too.
STEP_BYTES, SINGLE_BYTES, FORMS = 32, 40, 128


@intrinsic
def computed(typingctx: Any, code: Any, a: Any, b: Any, c: Any) -> Any:
    """What the kernel of a code makes of numbers or vectors; of a code that is none, the first."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        code, *values = arguments
        numbers = Numbers(builder, values[0].type)
        begin, end = builder.block, builder.append_basic_block("computed")
        switch = builder.switch(code, end)
        results = [(values[0], begin)]
        for name, number in {**OPCODES, **CHAIN_OPCODES}.items():
            element = getattr(elements, name, None)
            if element is not None:
                builder.position_at_end(builder.append_basic_block(name))
                switch.add_case(ir.Constant(code.type, number), builder.block)
                results.append((element.formula(numbers, *values[: element.arity]), builder.block))
                builder.branch(end)
        builder.position_at_end(end)
        chosen = builder.phi(values[0].type)
        for result in results:
            chosen.add_incoming(*result)
        return chosen

    return a(code, a, a, a), generate


@inlined
def chain(p, zero):
    """Of rows: a vector after the other."""
    words = p + 8 * (4 + 4 * word(p, 3))
    results, steps = word(words, 0), word(words, 1)
    first = words + 16 + 8 * results
    operands, n, vector = word(p, 3) - results, word(p, 6), many(zero)
    registers, size = room(REGISTERS, vector), lanes(vector)
    for i in range(word(p, 5)):
        for j in range(0, n, size):
            for k in range(operands):
                address = row(p, results + k, i, zero)
                single = word(p, 4 * (results + k) + 6) == 1 and n != 1
                value = many(load(address, 0, zero)) if single else load_part(address, j, n - j, vector)
                store(registers, size * k, value)
            for s in range(steps):
                step = first + STEP_BYTES * s
                a = load(registers, size * word(step, 1), vector)
                b = load(registers, size * word(step, 2), vector)
                c = load(registers, size * word(step, 3), vector)
                store(registers, size * (operands + s), computed(word(step, 0), a, b, c))
            for r in range(results):
                store_part(row(p, r, i, zero), j, n - j, load(registers, size * word(words, 2 + r), vector))


@inlined
def single_chain(p, zero):
    """Of one element: each step knows the addresses of its result and its operands."""
    step = p + 8 * (4 + 4 * word(p, 3))
    code = word(step, 0) // FORMS
    while code != END:
        a = load(word(step, 2), 0, zero)
        if code != GUARD:
            store(word(step, 1), 0, computed(code, a, load(word(step, 3), 0, zero), load(word(step, 4), 0, zero)))
        elif not math.isfinite(a):
            return
        step += SINGLE_BYTES
        code = word(step, 0) // FORMS
