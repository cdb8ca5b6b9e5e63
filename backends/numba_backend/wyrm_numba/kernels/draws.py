"""Numbers that are drawn, as :mod:`wyrm.philox` has them, and drawn again until a value is positive."""

from numba import int32, int64, uint32, uint64

from wyrm.memory import SOURCE_DTYPES
from wyrm.philox import ATTEMPTS
from wyrm_numba.kernels.bags import BAG_DTYPE, BAGS, PLACES
from wyrm_numba.kernels.random import LANES, philox, philox_lanes
from wyrm_numba.options import inlined, linked
from wyrm_numba.vectors import room
from wyrm_numba.words import call, load, real, release, store, word, zeroed

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


@inlined
def alias_of(entry, rows):
    """The number that an entry of an alias table stands for, if it is not its own; below the rows, whatever memory holds."""
    return min(int64(uint32(entry)), rows - 1)


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
                store(numbers, lane, alias_of(entry, word(record, ROWS)))


@linked
def drawn_again(p, record, bag, row, numbers):
    """What comes of a draw whose first attempt came to an excluded number; -1: nothing is left."""
    for made in range(1, ATTEMPTS - 1):
        lane = (made - 1) % LANES
        if lane == 0:
            attempt(p, record, ATTEMPTS * row + made, 1, numbers)
        if not is_excluded(bag, row, word(numbers, lane)):
            return word(numbers, lane)
    return drawn_from_what_is_left(p, record, bag, row)


@inlined
def part_of(whole, first, second):
    """The fraction of 64 bits that two words are, times a whole number below 2**63."""
    half, mask = uint64(32), uint64(0xFFFFFFFF)
    high, low = whole >> half, whole & mask
    a, b, c = high * second, low * first, low * second
    return high * first + (a >> half) + (b >> half) + (((a & mask) + (b & mask) + (c >> half)) >> half)


@linked
def exclude(bag, row, bits):
    """Note in bits, which are 0, which numbers are excluded."""
    which = 0 if word(bag, BAGS) == 1 else row
    begin, end = word(word(bag, PLACES), 2 * which), word(word(bag, PLACES), 2 * which + 1)
    size = 8 if word(bag, BAG_DTYPE) == INT64 else 4
    for i in range((end - begin) // size):
        number = word(begin, i) if size == 8 else int64(load(begin, i, int32(0)))
        store(bits, number // 64, int64(uint64(word(bits, number // 64)) | (uint64(1) << uint64(number % 64))))


@linked
def is_left(bag, row, bits, number):
    """Whether a number is not excluded; without memory for bits, each is looked for in the bag."""
    if bits == 0:
        return not is_excluded(bag, row, number)
    return (uint64(word(bits, number // 64)) >> uint64(number % 64)) & uint64(1) == uint64(0)


@linked
def owner_of(p, record, bag, row, bits, ticket, passed):
    """The number that a ticket of what is left is of, at an address where those that were passed are counted; -1: of none."""
    table = operand(p, word(record, TABLE)) if word(record, TABLE) != 0 else 0
    tickets = uint64(0)
    for entry in range(word(record, ROWS)):
        own, rest, other = uint64(1), uint64(0), int64(entry)
        if table != 0:
            own = uint64(word(table, entry)) >> uint64(32)
            rest, other = uint64(1 << 32) - own, alias_of(word(table, entry), word(record, ROWS))
        if is_left(bag, row, bits, entry):
            tickets += own
            if ticket < tickets:
                return int64(entry)
        if rest != uint64(0) and is_left(bag, row, bits, other):
            tickets += rest
            if ticket < tickets:
                return other
    store(passed, 0, int64(tickets))
    return int64(-1)


@linked
def drawn_from_what_is_left(p, record, bag, row):
    """A draw by tickets, as :mod:`wyrm.philox` has it; -1: nothing is left."""
    bits, passed = zeroed((word(record, ROWS) + 63) // 64), room(1, int64(0))
    if bits != 0:
        exclude(bag, row, bits)
    owner_of(p, record, bag, row, bits, uint64(0xFFFFFFFFFFFFFFFF), passed)
    first, second, _, _ = philox(operand(p, 1), ATTEMPTS * row + ATTEMPTS - 1)
    ticket = part_of(uint64(word(passed, 0)), uint64(first), uint64(second))
    drawn = owner_of(p, record, bag, row, bits, ticket, passed)
    release(bits)
    return drawn


@linked
def draw_once(p, record, bag, zero):
    """Numbers that stand as they are drawn."""
    coming, again, outcome = room(ROOM, int64(0)), room(ROOM, int64(0)), operand(p, 2)
    store(outcome, 0, real(max(1, word(record, ROWS) - 1), zero))
    store(outcome, 1, real(1, zero))
    for i in range(word(p, 5)):
        if i % LANES == 0:
            attempt(p, record, ATTEMPTS * i, ATTEMPTS, coming)
        number = word(coming, i % LANES)
        if bag != 0 and is_excluded(bag, i, number):
            number = drawn_again(p, record, bag, i, again)
            if number < 0:
                number = 0
                store(outcome, 1, zero)
        store(operand(p, 0), i * word(p, 7), number)


@linked
def draw_until(p, record, bag, zero):
    """One number, with what is repeated, until that is positive and the number not excluded."""
    others, until = uint64(word(record, ROWS) - 1), operand(p, word(record, UNTIL))
    drawn, outcome, coming, again = operand(p, 0), operand(p, 2), room(ROOM, int64(0)), room(ROOM, int64(0))
    tries = word(record, TRIES)
    body, end = p + 8 * (4 + 4 * word(record, OPERANDS)), p + 8 * word(p, 1)
    for made in range(tries):
        if made % LANES == 0:
            attempt(p, record, ATTEMPTS * made, ATTEMPTS, coming)
        number = word(coming, made % LANES)
        store(outcome, 0, real(max(1, int64(others // uint64(made + 1))), zero))
        store(outcome, 1, real(1, zero))
        if made == tries - 1 and bag != 0 and is_excluded(bag, 0, number):
            number = drawn_again(p, record, bag, made, again)
            if number < 0:
                number = 0
                store(outcome, 1, zero)
        store(drawn, 0, number)
        repeated = body
        while repeated < end:
            call(word(repeated, 0), repeated)
            repeated += 8 * word(repeated, 1)
        if load(until, 0, zero) > zero and load(outcome, 1, zero) > zero and (bag == 0 or not is_excluded(bag, 0, number)):
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
        draw_once(p, record, bag, zero)
