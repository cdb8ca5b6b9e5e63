"""Updates of parameters by rules.

A rule is a function that updates one row (:mod:`wyrm_numba.rule_source`), whose address stands in the rule's words: so these
kernels are compiled once for all rules.
"""

from numba import int64

from wyrm_numba.kernels.behind import catch_up_row
from wyrm_numba.kernels.clocks import LAST, MOVING, NOW
from wyrm_numba.kernels.elementwise import add_row, copy_row, fill_row
from wyrm_numba.kernels.rows import COLS, COUNT, DENSE, DOUBT, NUMBERS, ROWS, STEPS, TOUCHED, VALUES, merge_rows
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import call_rule, itemsize, load, row, store, word

# Words of a rule.
STATES, BY_ELEMENT, TIMED, FUNCTION = 0, 7, 8, 9


@inlined
def apply(p, states, value, gradient, number, n):
    """Update n elements: of a row, or a whole matrix as one."""
    rule = word(p, 3)
    call_rule(word(rule, FUNCTION), (value, gradient, states, number, word(states, 4 * word(rule, STATES)), n))


@inlined
def states_of(p, operands):
    """The address of the states: the operands after so many, the result among them."""
    return p + 8 * (4 + 4 * operands)


@inlined
def update_row(p, states, number, gradient, zero):
    """Update a row, after it has been caught up."""
    rule = word(p, 3)
    if word(rule, TIMED) != 0:
        clock = word(states, 4 * (word(rule, STATES) + 1))
        if word(word(clock, LAST), number) < word(clock, NOW):
            velocity, moving = int64(0), word(clock, MOVING)
            if moving >= 0:
                velocity = word(states, 4 * moving) + number * word(states, 4 * moving + 3) * itemsize(zero)
            catch_up_row(row(p, 0, number, zero), velocity, clock, number, word(p, 6), zero)
        if word(word(clock, LAST), number) <= word(clock, NOW):
            store(word(clock, LAST), number, word(clock, NOW) + 1)
    apply(p, states, row(p, 0, number, zero), gradient, number, word(p, 6))


@inlined
def update_all(p, gradient, stride, states, zero):
    """Update every row."""
    rows, cols = word(p, 5), word(p, 6)
    if word(word(p, 3), BY_ELEMENT) != 0 and stride == cols and word(p, 7) == cols:
        apply(p, states, word(p, 4), gradient, int64(0), rows * cols)
    else:
        for i in range(rows):
            update_row(p, states, i, gradient + i * stride * itemsize(zero), zero)


@inlined
def update(p, zero):
    update_all(p, word(p, 8), word(p, 11), states_of(p, 2), zero)


@inlined
def update_rows(p, zero):
    states = states_of(p, 3)
    for i in range(word(p, 13)):
        number = word(word(p, 8), i * word(p, 11))
        update_row(p, states, number, row(p, 2, i, zero), zero)


@linked
def gather_densely(gradient, zero):
    """Add the rows of a gradient's list to its matrix."""
    cols = word(gradient, COLS)
    for i in range(word(gradient, COUNT)):
        to = word(gradient, DENSE) + word(word(gradient, NUMBERS), i) * cols * itemsize(zero)
        add_row(to, word(gradient, VALUES) + i * cols * itemsize(zero), cols, zero)
    store(gradient, COUNT, 0)


@inlined
def update_gradient(p, zero):
    gradient, states = word(p, 8), states_of(p, 2)
    cols = word(gradient, COLS)
    store(gradient, STEPS, word(gradient, STEPS) + 1)
    store(gradient, DOUBT, word(gradient, DOUBT) & 2)
    if word(gradient, TOUCHED) != 0:
        gather_densely(gradient, zero)
        dense = word(gradient, DENSE)
        update_all(p, dense, cols, states, zero)
        fill_row(dense, word(gradient, ROWS) * cols, zero)
    else:
        merge_rows(gradient, zero)
        for i in range(word(gradient, COUNT)):
            number = word(word(gradient, NUMBERS), i)
            update_row(p, states, number, word(gradient, VALUES) + i * cols * itemsize(zero), zero)
    store(gradient, TOUCHED, 0)
    store(gradient, COUNT, 0)


@inlined
def merge_gradient(p, zero):
    """Adds a gradient to another, which has room for it (that has been checked before), and clears it."""
    to, source = word(p, 4), word(p, 8)
    cols, begin, count = word(source, COLS), word(to, COUNT), word(source, COUNT)
    if word(source, TOUCHED) != 0:
        n = word(source, ROWS) * cols
        add_row(word(to, DENSE), word(source, DENSE), n, zero)
        fill_row(word(source, DENSE), n, zero)
        store(to, TOUCHED, 1)
    for i in range(count):
        store(word(to, NUMBERS), begin + i, word(word(source, NUMBERS), i))
    copy_row(word(to, VALUES) + begin * cols * itemsize(zero), word(source, VALUES), count * cols, zero)
    store(to, COUNT, begin + count)
    store(source, TOUCHED, 0)
    store(source, COUNT, 0)


@inlined
def square_sum(p, zero):
    gradient = word(p, 8)
    dense = word(gradient, TOUCHED) != 0
    if dense:
        gather_densely(gradient, zero)
        values, count = word(gradient, DENSE), word(gradient, ROWS)
    else:
        merge_rows(gradient, zero)
        values, count = word(gradient, VALUES), word(gradient, COUNT)
    cols, has_frozen = word(gradient, COLS), word(p, 1) > 12  # words of an instruction of two operands
    total = zero
    for i in range(count):
        if has_frozen:
            number = i if dense else word(word(gradient, NUMBERS), i)
            if load(word(p, 12), number * word(p, 15), zero) != zero:
                continue
        for j in range(i * cols, (i + 1) * cols):
            total += load(values, j, zero) * load(values, j, zero)
    store(word(p, 4), 0, load(word(p, 4), 0, zero) + total if word(p, 2) != 0 else total)
