"""The interpreter: walks instructions, loads inputs for passes, and drives these, by the tables of :mod:`wyrm.native`."""

import math

from numba import float32, float64, int32, int64

from wyrm.memory import SOURCE_DTYPES, Report
from wyrm.native import FRAME, INPUT, INPUT_KINDS
from wyrm_numba.apart import apart
from wyrm_numba.kernels.bags import BAG_CAPACITY, BAG_COUNT, BAG_DTYPE, BAGS, INDICES, OFFSETS, PLACES, WEIGHTS
from wyrm_numba.kernels.elementwise import copy_row, fill_row
from wyrm_numba.kernels.rows import COUNT, TOUCHED
from wyrm_numba.kernels.rows import DENSE as MATRIX
from wyrm_numba.options import inlined
from wyrm_numba.words import call, load, store, word

# Where the words of a frame are.
(
    FORWARD,
    BACKWARD,
    UPDATE,
    INPUTS,
    CLAIMS,
    SINKS,
    ROWS,
    REAL,
    SEED,
    LOSS,
    LOOK,
    DOUBTS,
    SKIP,
    LOSSES,
    REPORT,
    LEAVES,
    DATE,
    TIME,
    FIRST_STEP,
    EXAMPLES,
    LENGTH,
    POSITIONS,
    WHOLE,
    WHOLE_PLACES,
) = (
    FRAME.index(name)
    for name in (
        "forward",
        "backward",
        "update",
        "inputs",
        "claims",
        "sinks",
        "rows",
        "real",
        "seed",
        "loss",
        "look",
        "doubts",
        "skip",
        "losses",
        "report",
        "leaves",
        "date",
        "time",
        "first_step",
        "examples",
        "length",
        "positions",
        "whole",
        "places",
    )
)
FLOAT32, FLOAT64, INT32, INT64 = range(len(SOURCE_DTYPES))
DENSE, INDEX, BAG, RANDOM = range(len(INPUT_KINDS))
INDEX_OUT_OF_RANGE, ROWS_FULL = Report.INDEX_OUT_OF_RANGE, Report.ROWS_FULL
BAG_FULL, NO_MATRIX, ORDER_OUT_OF_RANGE = Report.BAG_FULL, Report.NO_MATRIX, Report.ORDER_OUT_OF_RANGE
NOT_FINITE = Report.NOT_FINITE
#: Bytes of the records of inputs and claims.
INPUT_BYTES, CLAIM_BYTES = 8 * INPUT, 24
#: Bytes of the record of a row that is read where it stands, and of a use of it.
ROW_BYTES, USE_BYTES = 40, 16
# The words of an input's record.
KIND, DTYPE, SOURCE, STRIDE, ELEMENTS, DESTINATION, LIMIT, MODE, STARTS = range(INPUT)
CAPACITY = 3
#: What looks are below, or gradients are in doubt.
SMALL32, SMALL64 = 2.0**96, 2.0**768


@apart
def report(frame, status, where, place, value):
    words = word(frame, REPORT)
    store(words, 0, status)
    store(words, 1, where)
    store(words, 2, place)
    store(words, 3, value)
    return status


@apart
def walk(frame, section):
    instruction, end = word(frame, section), word(frame, section + 1)
    while instruction < end:
        call(word(instruction, 0), instruction)
        instruction += 8 * word(instruction, 1)
    return 0


@apart
def load_number(frame, dtype, source, i, destination):
    """Copy one number of those that :func:`load_reals` has no loop for: a whole one, or one that becomes a wider one."""
    if dtype == FLOAT32:
        store(destination, i, float64(load(source, i, float32(0))))
        return 0
    whole = int64(load(source, i, int32(0))) if dtype == INT32 else word(source, i)
    if word(frame, REAL) == FLOAT32:
        store(destination, i, float32(whole))
    else:
        store(destination, i, float64(whole))
    return 0


@apart
def load_reals(frame, dtype, source, count, destination):
    """Copy numbers into a program's dtype; where the source is 0, ones."""
    single = word(frame, REAL) == FLOAT32
    if source == 0 and single:
        fill_row(destination, count, float32(1))
    elif source == 0:
        fill_row(destination, count, float64(1))
    elif dtype == word(frame, REAL):
        copy_row(destination, source, count if single else 2 * count, float32(0))
    elif dtype == FLOAT64:
        for i in range(count):
            store(destination, i, float32(load(source, i, float64(0))))
    else:
        for i in range(count):
            load_number(frame, dtype, source, i, destination)
    return 0


@apart
def load_indices(frame, record, number, source, dtype, count, destination, place):
    """Copy indices, each of which must be below the limit; returns a status. The first is number ``place`` of the input."""
    limit = word(record, LIMIT)
    for i in range(count):
        index = word(source, i) if dtype == INT64 else int64(load(source, i, int32(0)))
        if index < 0 or index >= limit:
            return report(frame, INDEX_OUT_OF_RANGE, number, place + i, index)
        store(destination, i, index)
    return 0


@apart
def load_bags(frame, record, number, source, examples, n):
    """Copy the bags of ``n`` examples (where their address is 0, of the first one), one after the other; returns a status.

    Where they stand in their source is all that is noted of bags that only draws read.
    """
    bag = word(record, DESTINATION)
    places, each, begins, ends = word(bag, PLACES), word(bag, BAGS) // n, word(source, 1), word(source, 2)
    size = 8 if word(source, 4) == INT64 else 4
    count = at = 0
    store(bag, BAG_DTYPE, word(source, 4))
    for e in range(n):
        first = (word(examples, e) if examples != 0 else 0) * each
        for b in range(first, first + each):
            begin, end = word(begins, b), word(ends, b)  # once: another thread may change them
            if begin < 0 or end < begin or end > word(source, 6):
                return report(frame, ORDER_OUT_OF_RANGE, number, at, end)
            store(places, 2 * at, word(source, 0) + size * begin)
            store(places, 2 * at + 1, word(source, 0) + size * end)
            count += end - begin
            at += 1
    if word(record, STRIDE) == 0:
        return 0
    if count > word(bag, BAG_CAPACITY):
        return report(frame, BAG_FULL, number, 0, count)
    item = 4 if word(frame, REAL) == FLOAT32 else 8
    at = 0
    for b in range(word(bag, BAGS)):
        begin_at = word(places, 2 * b)
        begin, part = (begin_at - word(source, 0)) // size, (word(places, 2 * b + 1) - begin_at) // size
        indices = word(bag, INDICES) + 8 * at
        status = load_indices(frame, record, number, begin_at, word(source, 4), part, indices, at)
        if status != 0:
            return status
        weights, dtype = word(source, 3), word(source, 5)
        if weights != 0:
            weights += begin * (8 if dtype == FLOAT64 else 8 if dtype == INT64 else 4)
        load_reals(frame, dtype, weights, part, word(bag, WEIGHTS) + item * at)
        store(word(bag, OFFSETS), b, at)
        at += part
    store(word(bag, OFFSETS), word(bag, BAGS), at)
    store(bag, BAG_COUNT, at)
    return 0


@apart
def load_key(record, source, step):
    """Put together the key of a random input."""
    key = word(record, DESTINATION)
    store(key, 0, word(source, 0))
    store(key, 1, word(source, 1))
    store(key, 2, step)
    return 0


@apart
def load_row(frame, record, number, source, n):
    """Bring a row of an input's elements to place ``n`` of where the program expects them; returns a status."""
    count = word(record, ELEMENTS)
    at = n * count
    if word(record, KIND) == INDEX:
        destination = word(record, DESTINATION) + 8 * at
        return load_indices(frame, record, number, source, word(record, DTYPE), count, destination, at)
    destination = word(record, DESTINATION) + (4 if word(frame, REAL) == FLOAT32 else 8) * at
    return load_reals(frame, word(record, DTYPE), source, count, destination)


@inlined
def load_for_pass(frame, record, number):
    """Bring an input from its cell to where the program expects it; returns a status."""
    source = word(frame, LEAVES) + word(record, SOURCE)
    if word(record, MODE) != 0:
        source = word(source, 0)
    kind = word(record, KIND)
    if kind == BAG:
        return load_bags(frame, record, number, source, 0, 1)
    if kind == RANDOM:
        load_key(record, source, word(word(record, STRIDE), 0) if word(record, STRIDE) != 0 else 0)
        return 0
    return load_row(frame, record, number, source, 0)


@apart
def point_to_rows(frame):
    """Put the addresses of rows that are read where they stand into the instructions; the indices have been checked."""
    for record in range(word(frame, ROWS), word(frame, ROWS + 1), ROW_BYTES):
        address = word(record, 1) + word(word(record, 0), 0) * word(record, 2)
        for use in range(word(record, 3), word(record, 4), USE_BYTES):
            store(word(use, 0), 0, address + word(use, 1))
    return 0


@inlined
def number_at(frame, place):
    return float64(load(place, 0, float32(0))) if word(frame, REAL) == FLOAT32 else load(place, 0, float64(0))


@inlined
def are_certain(frame):
    """Whether there are gradients, and whoever has added to them knows that they are finite."""
    begin, end = word(frame, DOUBTS), word(frame, DOUBTS + 1)
    for doubt in range(begin, end, 8):
        if word(word(doubt, 0), 0) != 0:
            return 0
    return int64(begin < end)


@inlined
def forward(frame):
    inputs = word(frame, INPUTS)
    for record in range(inputs, word(frame, INPUTS + 1), INPUT_BYTES):
        status = load_for_pass(frame, record, (record - inputs) // INPUT_BYTES)
        if status != 0:
            return status
    point_to_rows(frame)
    if word(frame, LOSS) == 0:
        walk(frame, FORWARD)
    elif are_certain(frame) == 0:  # a step, which is made if the squares of gradients have a sum
        walk(frame, FORWARD)
        if not math.isfinite(number_at(frame, word(frame, LOSS))):
            return report(frame, NOT_FINITE, 0, 0, 0)
    walk(frame, UPDATE)
    return 0


@apart
def claim_gradients(frame):
    """Check that gradients have room for what is to be added, and mark the matrices that are touched; returns a status."""
    begin, end = word(frame, CLAIMS), word(frame, CLAIMS + 1)
    needed, previous = 0, 0
    for claim in range(begin, end, CLAIM_BYTES):
        gradient, rows, further = word(claim, 0), word(claim, 1), word(claim, 2)
        if gradient != previous:
            needed, previous = 0, gradient
        if rows >= 0:
            needed += rows
            if further != 0:
                needed += word(further, 0)
            if word(gradient, COUNT) + needed > word(gradient, CAPACITY):
                return report(frame, ROWS_FULL, (claim - begin) // CLAIM_BYTES, 0, needed)
        elif word(gradient, MATRIX) == 0 and (further == 0 or word(further, 0) != 0):
            return report(frame, NO_MATRIX, (claim - begin) // CLAIM_BYTES, 0, 0)
    for claim in range(begin, end, CLAIM_BYTES):
        if word(claim, 1) < 0 and word(claim, 2) == 0:
            store(word(claim, 0), TOUCHED, 1)
    return 0


@inlined
def backward(frame, weight):
    status = claim_gradients(frame)
    if status != 0:
        return status
    seed = word(frame, SEED)
    if seed != 0:
        if word(frame, REAL) == FLOAT32:
            store(seed, 0, float32(weight))
        else:
            store(seed, 0, weight)
    walk(frame, BACKWARD)
    if word(frame, LOOK) != 0:
        most = SMALL32 if word(frame, REAL) == FLOAT32 else SMALL64
        if not (abs(weight) <= 1 and abs(number_at(frame, word(frame, LOOK))) <= most):
            for doubt in range(word(frame, DOUBTS), word(frame, DOUBTS + 1), 8):
                store(word(doubt, 0), 0, word(word(doubt, 0), 0) | 1)
    return 0
