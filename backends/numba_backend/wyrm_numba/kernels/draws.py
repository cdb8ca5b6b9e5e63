"""Numbers that are drawn, as :mod:`wyrm.philox` has them, and drawn again until a value is positive."""

from numba import int32, int64, uint32, uint64

from wyrm.memory import SOURCE_DTYPES
from wyrm.philox import ATTEMPTS
from wyrm_numba.kernels.bags import BAG_DTYPE, BAGS, PLACES
from wyrm_numba.kernels.random import LANES, philox_lanes
from wyrm_numba.options import inlined, linked
from wyrm_numba.vectors import room
from wyrm_numba.words import call, load, real, store, word

# The words of the record that says how numbers are drawn.
ROWS, TRIES, OPERANDS, TABLE, BAG, UNTIL = range(6)
INT64 = SOURCE_DTYPES.index("int64")
#: How many words the blocks of attempts that are made at a time take.
ROOM = 4 * LANES


@inlined
def operand(p, number):
    """The address that an operand has."""
    return word(p, 4 + 4 * number)


@linked
def is_excluded(bag, row, number):
    """Whether a number is among those that must not be drawn."""
    which = 0 if word(bag, BAGS) == 1 else row
    begin, end = word(word(bag, PLACES), 2 * which), word(word(bag, PLACES), 2 * which + 1)
    found = int64(0)  # without an end at the first that is found, several are compared at a time
    if word(bag, BAG_DTYPE) == INT64:
        for i in range((end - begin) // 8):
            found |= int64(word(begin, i) == number)
    else:
        short, any_short = int32(number), int32(0)
        for i in range((end - begin) // 4):
            any_short |= int32(load(begin, i, int32(0)) == short)
        found = int64(any_short)
    return found != 0


@linked
def attempt(p, record, block, apart, numbers):
    """The numbers, below the rows, that LANES attempts come to: their blocks of random numbers are ``apart`` from each other.

    They go to an address with room for the blocks.
    """
    half, rows, key = uint64(32), uint64(word(record, ROWS)), operand(p, 1)
    philox_lanes(word(key, 0), word(key, 1), word(key, 2), block, apart, numbers)
    for lane in range(LANES):
        first, second = uint64(word(numbers, lane)), uint64(word(numbers, LANES + lane))
        store(numbers, lane, int64((first * rows + ((second * rows) >> half)) >> half))
    if word(record, TABLE) != 0:
        table = operand(p, word(record, TABLE))
        for lane in range(LANES):
            entry = uint64(word(table, word(numbers, lane)))
            if uint64(word(numbers, 2 * LANES + lane)) >= entry >> half:
                store(numbers, lane, int64(uint32(entry)))


@linked
def drawn_again(p, record, bag, row, numbers):
    """What comes of the further attempts at a draw whose first came to an excluded number."""
    for made in range(1, ATTEMPTS):
        lane = (made - 1) % LANES
        if lane == 0:
            attempt(p, record, ATTEMPTS * row + made, 1, numbers)
        if made == ATTEMPTS - 1 or not is_excluded(bag, row, word(numbers, lane)):
            return word(numbers, lane)
    return int64(0)


@linked
def draw_once(p, record, bag):
    """Numbers that stand as they are drawn."""
    coming, again = room(ROOM, int64(0)), room(ROOM, int64(0))
    for i in range(word(p, 5)):
        if i % LANES == 0:
            attempt(p, record, ATTEMPTS * i, ATTEMPTS, coming)
        number = word(coming, i % LANES)
        if bag != 0 and is_excluded(bag, i, number):
            number = drawn_again(p, record, bag, i, again)
        store(operand(p, 0), i * word(p, 7), number)


@linked
def draw_until(p, record, bag, zero):
    """One number, with what is repeated, until that is positive and the number not excluded."""
    others, until = uint64(word(record, ROWS) - 1), operand(p, word(record, UNTIL))
    drawn, rank, coming = operand(p, 0), operand(p, 2), room(ROOM, int64(0))
    body, end = p + 8 * (4 + 4 * word(record, OPERANDS)), p + 8 * word(p, 1)
    for made in range(word(record, TRIES)):
        if made % LANES == 0:
            attempt(p, record, ATTEMPTS * made, ATTEMPTS, coming)
        number = word(coming, made % LANES)
        store(drawn, 0, number)
        store(rank, 0, real(max(1, int64(others // uint64(made + 1))), zero))
        repeated = body
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
