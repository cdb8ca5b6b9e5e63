"""Updates of parameters by rules.

``apply`` updates one row; see :mod:`wyrm_numba.rule_source`. ``timed`` says whether the rule has a clock, and ``moving`` which
of the states is the velocity (-1: none). All three are constants where these functions are inlined.
"""

from numba import int64

from wyrm_numba.kernels.behind import catch_up_row
from wyrm_numba.kernels.clocks import LAST, NOW
from wyrm_numba.kernels.elementwise import add_row, copy_row, fill_row
from wyrm_numba.kernels.rows import COLS, COUNT, DENSE, DOUBT, NUMBERS, ROWS, STEPS, TOUCHED, VALUES, merge_rows
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import itemsize, load, row, store, word


@inlined
def states_of(p, operands):
    """The address of the states: the operands after so many, the result among them."""
    return p + 8 * (4 + 4 * operands)


@inlined
def update_row(apply, moving, num_states, timed, p, states, number, gradient, zero):
    """Update a row, after it has been caught up."""
    if timed:
        clock = word(states, 4 * (num_states + 1))
        if word(word(clock, LAST), number) < word(clock, NOW):
            velocity = int64(0)
            if moving >= 0:
                velocity = word(states, 4 * moving) + number * word(states, 4 * moving + 3) * itemsize(zero)
            catch_up_row(row(p, 0, number, zero), velocity, clock, number, word(p, 6), zero)
        if word(word(clock, LAST), number) <= word(clock, NOW):
            store(word(clock, LAST), number, word(clock, NOW) + 1)
    apply(row(p, 0, number, zero), gradient, states, number, word(states, 4 * num_states), word(p, 6))


@inlined
def update_all(apply, moving, num_states, timed, by_element, p, gradient, stride, states, zero):
    """Update every row."""
    rows, cols = word(p, 5), word(p, 6)
    if by_element and stride == cols and word(p, 7) == cols:
        apply(word(p, 4), gradient, states, int64(0), word(states, 4 * num_states), rows * cols)
    else:
        for i in range(rows):
            address = gradient + i * stride * itemsize(zero)
            update_row(apply, moving, num_states, timed, p, states, i, address, zero)


@inlined
def update(apply, moving, num_states, timed, by_element, p, zero):
    states = states_of(p, 2)
    update_all(apply, moving, num_states, timed, by_element, p, word(p, 8), word(p, 11), states, zero)


@inlined
def update_rows(apply, moving, num_states, timed, by_element, p, zero):
    states = states_of(p, 3)
    for i in range(word(p, 13)):
        number = word(word(p, 8), i * word(p, 11))
        update_row(apply, moving, num_states, timed, p, states, number, row(p, 2, i, zero), zero)


@linked
def gather_densely(gradient, zero):
    """Add the rows of a gradient's list to its matrix."""
    cols = word(gradient, COLS)
    for i in range(word(gradient, COUNT)):
        to = word(gradient, DENSE) + word(word(gradient, NUMBERS), i) * cols * itemsize(zero)
        add_row(to, word(gradient, VALUES) + i * cols * itemsize(zero), cols, zero)
    store(gradient, COUNT, 0)


@inlined
def update_gradient(apply, moving, num_states, timed, by_element, p, zero):
    gradient, states = word(p, 8), states_of(p, 2)
    cols = word(gradient, COLS)
    store(gradient, STEPS, word(gradient, STEPS) + 1)
    store(gradient, DOUBT, word(gradient, DOUBT) & 2)
    if word(gradient, TOUCHED) != 0:
        gather_densely(gradient, zero)
        dense = word(gradient, DENSE)
        update_all(apply, moving, num_states, timed, by_element, p, dense, cols, states, zero)
        fill_row(dense, word(gradient, ROWS) * cols, zero)
    else:
        merge_rows(gradient, zero)
        for i in range(word(gradient, COUNT)):
            number = word(word(gradient, NUMBERS), i)
            address = word(gradient, VALUES) + i * cols * itemsize(zero)
            update_row(apply, moving, num_states, timed, p, states, number, address, zero)
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
