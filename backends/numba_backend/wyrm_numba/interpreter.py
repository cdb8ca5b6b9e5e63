"""The interpreter: loads inputs, walks instructions, and drives a program over a feed, by the tables of :mod:`wyrm.native`."""

import math

from numba import float32, float64, int32, njit

from wyrm.memory import SOURCE_DTYPES, Report
from wyrm.native import FRAME, INPUT, INPUT_KINDS
from wyrm_numba.kernels.bags import BAG_CAPACITY, BAG_COUNT, BAGS, INDICES, OFFSETS, WEIGHTS
from wyrm_numba.kernels.elementwise import copy_row
from wyrm_numba.kernels.rows import COUNT, TOUCHED
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import call, load, prefetch, real, store, word

# Where the words of a frame are.
(
    FORWARD,
    BACKWARD,
    UPDATE,
    INPUTS,
    CLAIMS,
    SINKS,
    REAL,
    SEED,
    LOSS,
    LOSSES,
    REPORT,
    LEAVES,
    FIRST_STEP,
) = (
    FRAME.index(name)
    for name in (
        "forward",
        "backward",
        "update",
        "inputs",
        "claims",
        "sinks",
        "real",
        "seed",
        "loss",
        "losses",
        "report",
        "leaves",
        "first_step",
    )
)
FLOAT32, FLOAT64, INT32, INT64 = range(len(SOURCE_DTYPES))
DENSE, INDEX, BAG, RANDOM = range(len(INPUT_KINDS))
INDEX_OUT_OF_RANGE, ROWS_FULL = Report.INDEX_OUT_OF_RANGE, Report.ROWS_FULL
NOT_FINITE, BAG_FULL = Report.NOT_FINITE, Report.BAG_FULL
#: Bytes of the records of inputs, claims and sinks.
INPUT_BYTES, CLAIM_BYTES, SINK_BYTES = 8 * INPUT, 24, 48
# The words of an input's record.
KIND, DTYPE, SOURCE, STRIDE, ELEMENTS, DESTINATION, LIMIT, MODE = range(INPUT)
#: How many examples ahead inputs are fetched into the cache: in random order, each is a miss.
AHEAD = 16
CAPACITY = 3


@njit(**OPTIONS)
def report(frame, status, where, place, value):
    words = word(frame, REPORT)
    store(words, 0, status)
    store(words, 1, where)
    store(words, 2, place)
    store(words, 3, value)
    return status


@njit(**OPTIONS)
def walk(frame, section):
    instruction, end = word(frame, section), word(frame, section + 1)
    while instruction < end:
        call(word(instruction, 0), instruction)
        instruction += 8 * word(instruction, 1)


@njit(**OPTIONS)
def convert(source, dtype, count, destination, zero):
    """Read real numbers of any of the source dtypes."""
    if dtype == FLOAT32:
        for i in range(count):
            store(destination, i, real(load(source, i, float32(0)), zero))
    elif dtype == FLOAT64:
        for i in range(count):
            store(destination, i, real(load(source, i, float64(0)), zero))
    elif dtype == INT32:
        for i in range(count):
            store(destination, i, real(load(source, i, int32(0)), zero))
    else:
        for i in range(count):
            store(destination, i, real(word(source, i), zero))


@njit(**OPTIONS)
def load_reals(frame, record, source):
    dtype, count, destination = word(record, DTYPE), word(record, ELEMENTS), word(record, DESTINATION)
    if word(frame, REAL) == FLOAT32:
        convert(source, dtype, count, destination, float32(0))
    else:
        convert(source, dtype, count, destination, float64(0))


@njit(**OPTIONS)
def load_indices(frame, record, number, source, dtype, begin, count, destination):
    """Copy indices, each of which must be below the limit; returns a status."""
    limit = word(record, LIMIT)
    for i in range(count):
        index = word(source, begin + i) if dtype == INT64 else int(load(source, begin + i, int32(0)))
        if index < 0 or index >= limit:
            return report(frame, INDEX_OUT_OF_RANGE, number, i, index)
        store(destination, i, index)
    return 0


@njit(**OPTIONS)
def load_weights(weights, source, dtype, begin, count, zero):
    """Copy weights, or set them to 1 where there are none."""
    if source != 0:
        item = 8 if dtype in (FLOAT64, INT64) else 4
        convert(source + begin * item, dtype, count, weights, zero)
    else:
        for i in range(count):
            store(weights, i, real(1, zero))


@njit(**OPTIONS)
def load_bags(frame, record, number, source, example):
    """Copy the bags of an example; returns a status."""
    bag = word(record, DESTINATION)
    bags = word(bag, BAGS)
    offsets = word(source, 1) + 8 * example * bags
    begin = word(offsets, 0)
    count = word(offsets, bags) - begin
    if count > word(bag, BAG_CAPACITY):
        return report(frame, BAG_FULL, number, 0, count)
    status = load_indices(frame, record, number, word(source, 0), word(source, 3), begin, count, word(bag, INDICES))
    if status != 0:
        return status
    for b in range(bags + 1):
        store(word(bag, OFFSETS), b, word(offsets, b) - begin)
    store(bag, BAG_COUNT, count)
    if word(frame, REAL) == FLOAT32:
        load_weights(word(bag, WEIGHTS), word(source, 2), word(source, 4), begin, count, float32(0))
    else:
        load_weights(word(bag, WEIGHTS), word(source, 2), word(source, 4), begin, count, float64(0))
    return 0


@njit(**OPTIONS)
def load_key(record, source, step):
    """Put together the key of a random input."""
    key = word(record, DESTINATION)
    store(key, 0, word(source, 0))
    store(key, 1, word(source, 1))
    store(key, 2, step)


@njit(**OPTIONS)
def load_input(frame, record, number, source, example, step):
    """Bring an input to where the program expects it; returns a status."""
    kind = word(record, KIND)
    if kind == DENSE:
        load_reals(frame, record, source)
    elif kind == INDEX:
        count, destination = word(record, ELEMENTS), word(record, DESTINATION)
        return load_indices(frame, record, number, source, word(record, DTYPE), 0, count, destination)
    elif kind == BAG:
        return load_bags(frame, record, number, source, example)
    else:
        load_key(record, source, step)
    return 0


@njit(**OPTIONS)
def forward(frame):
    inputs = word(frame, INPUTS)
    for record in range(inputs, word(frame, INPUTS + 1), INPUT_BYTES):
        source = word(frame, LEAVES) + word(record, SOURCE)
        if word(record, MODE) != 0:
            source = word(source, 0)
        step = 0
        if word(record, KIND) == RANDOM and word(record, STRIDE) != 0:
            step = word(word(record, STRIDE), 0)
        status = load_input(frame, record, (record - inputs) // INPUT_BYTES, source, 0, step)
        if status != 0:
            return status
    walk(frame, FORWARD)
    walk(frame, UPDATE)
    return 0


@njit(**OPTIONS)
def claim_gradients(frame):
    """Check that the lists of gradients have room for a pass, and mark the matrices that it touches; returns a status."""
    begin, end = word(frame, CLAIMS), word(frame, CLAIMS + 1)
    needed, previous = 0, 0
    for claim in range(begin, end, CLAIM_BYTES):
        gradient, rows, bag = word(claim, 0), word(claim, 1), word(claim, 2)
        if gradient != previous:
            needed, previous = 0, gradient
        if rows >= 0:
            needed += rows
            if bag != 0:
                needed += word(bag, BAG_COUNT)
            if word(gradient, COUNT) + needed > word(gradient, CAPACITY):
                return report(frame, ROWS_FULL, (claim - begin) // CLAIM_BYTES, 0, needed)
    for claim in range(begin, end, CLAIM_BYTES):
        if word(claim, 1) < 0:
            store(word(claim, 0), TOUCHED, 1)
    return 0


@njit(**OPTIONS)
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
    return 0


@njit(**OPTIONS)
def drain(frame, sink, example):
    """Copy an output to where the example's results go."""
    to = word(sink, 0) + example * word(sink, 1)
    item = 4 if word(frame, REAL) == FLOAT32 else 8
    for i in range(word(sink, 3)):
        row, n = word(sink, 2) + i * word(sink, 5) * item, word(sink, 4)
        if item == 4:
            copy_row(to + i * n * item, row, n, float32(0))
        else:
            copy_row(to + i * n * item, row, n, float64(0))


@njit(**OPTIONS)
def source_of(record, example, position):
    """The address of an example's value."""
    if word(record, KIND) == DENSE or word(record, KIND) == INDEX:
        return word(record, SOURCE) + (position if word(record, MODE) != 0 else example) * word(record, STRIDE)
    return word(record, SOURCE)


@njit(**OPTIONS)
def run_example(frame, example, position):
    """One example; returns a status before anything has changed."""
    inputs = word(frame, INPUTS)
    for record in range(inputs, word(frame, INPUTS + 1), INPUT_BYTES):
        source, number = source_of(record, example, position), (record - inputs) // INPUT_BYTES
        status = load_input(frame, record, number, source, example, word(frame, FIRST_STEP) + example)
        if status != 0:
            return status
    walk(frame, FORWARD)
    loss_address = word(frame, LOSS)
    if loss_address != 0:
        if word(frame, REAL) == FLOAT32:
            loss = float64(load(loss_address, 0, float32(0)))
        else:
            loss = load(loss_address, 0, float64(0))
        if not math.isfinite(loss):
            return report(frame, NOT_FINITE, example, 0, 0)
        status = claim_gradients(frame)
        if status != 0:
            return status
        store(frame, LOSSES, load(frame, LOSSES, float64(0)) + loss)
    walk(frame, BACKWARD)
    walk(frame, UPDATE)
    for sink in range(word(frame, SINKS), word(frame, SINKS + 1), SINK_BYTES):
        drain(frame, sink, example)
    return 0


@njit(**OPTIONS)
def run(frame, order, start, stop):
    for position in range(start, stop):
        if position + AHEAD < stop:
            ahead = word(order, position + AHEAD)
            for record in range(word(frame, INPUTS), word(frame, INPUTS + 1), INPUT_BYTES):
                prefetch(source_of(record, ahead, position + AHEAD))
        status = run_example(frame, word(order, position), position)
        if status != 0:
            store(word(frame, REPORT), 4, position)
            return status
    return 0
