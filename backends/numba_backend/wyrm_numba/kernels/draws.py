"""Numbers that are drawn, as :mod:`wyrm.philox` has them, and drawn again until a value is positive."""

from numba import int32, int64, uint32, uint64

from wyrm.memory import SOURCE_DTYPES
from wyrm.philox import ATTEMPTS
from wyrm_numba.kernels.bags import BAG_DTYPE, BAGS, PLACES
from wyrm_numba.kernels.random import philox
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import call, load, real, store, word

# The words of the record that says how numbers are drawn.
ROWS, TRIES, OPERANDS, TABLE, BAG, UNTIL = range(6)
INT64 = SOURCE_DTYPES.index("int64")


@inlined
def operand(p, number):
    """The address that an operand has."""
    return word(p, 4 + 4 * number)


@linked
def is_excluded(bag, row, number):
    """Whether a number is among those that must not be drawn."""
    which = 0 if word(bag, BAGS) == 1 else row
    begin, end = word(word(bag, PLACES), 2 * which), word(word(bag, PLACES), 2 * which + 1)
    if word(bag, BAG_DTYPE) == INT64:
        for i in range((end - begin) // 8):
            if word(begin, i) == number:
                return True
    else:
        for i in range((end - begin) // 4):
            if load(begin, i, int32(0)) == number:
                return True
    return False


@linked
def attempted(p, record, count, attempt):
    """The number that an attempt at a draw comes to, below the rows."""
    half, rows = uint64(32), uint64(word(record, ROWS))
    a, b, c, _ = philox(operand(p, 1), ATTEMPTS * count + attempt)
    number = int64((uint64(a) * rows + ((uint64(b) * rows) >> half)) >> half)
    if word(record, TABLE) != 0:
        entry = uint64(word(operand(p, word(record, TABLE)), number))
        if uint64(c) >= entry >> half:
            number = int64(uint32(entry))
    return number


@linked
def draw_once(p, record, bag):
    """Numbers that stand as they are drawn: attempts that come to excluded ones are repeated."""
    for i in range(word(p, 5)):
        number = int64(0)
        for attempt in range(ATTEMPTS):
            number = attempted(p, record, i, attempt)
            if bag == 0 or not is_excluded(bag, i, number):
                break
        store(operand(p, 0), i * word(p, 7), number)


@linked
def draw_until(p, record, bag, zero):
    """One number, with what is repeated, until that is positive and the number not excluded."""
    rows, until, end = word(record, ROWS), operand(p, word(record, UNTIL)), p + 8 * word(p, 1)
    for made in range(word(record, TRIES)):
        number = attempted(p, record, made, 0)
        store(operand(p, 0), 0, number)
        store(operand(p, 2), 0, real(max(1, (rows - 1) // (made + 1)), zero))
        repeated = p + 8 * (4 + 4 * word(record, OPERANDS))
        while repeated < end:
            call(word(repeated, 0), repeated)
            repeated += 8 * word(repeated, 1)
        if load(until, 0, zero) > zero and (bag == 0 or not is_excluded(bag, 0, number)):
            return
    if load(until, 0, zero) > zero:
        store(until, 0, zero)


@inlined
def draw(p, zero):
    record = word(p, 3)
    bag = operand(p, word(record, BAG)) if word(record, BAG) != 0 else 0
    if word(record, UNTIL) != 0:
        draw_until(p, record, bag, zero)
    else:
        draw_once(p, record, bag)
        store(operand(p, 2), 0, real(max(1, word(record, ROWS) - 1), zero))
