"""The interpreter: walks instructions, loads inputs for passes, and drives these, by the tables of :mod:`wyrm.native`."""

from numba import float32, float64, int32, njit

from wyrm.memory import SOURCE_DTYPES, Report
from wyrm.native import FRAME, INPUT, INPUT_KINDS
from wyrm_numba.kernels.bags import BAG_CAPACITY, BAG_COUNT, BAG_DTYPE, BAGS, INDICES, OFFSETS, PLACES, WEIGHTS
from wyrm_numba.kernels.rows import COUNT, TOUCHED
from wyrm_numba.kernels.rows import DENSE as MATRIX
from wyrm_numba.options import OPTIONS
from wyrm_numba.words import call, load, real, store, word

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
    SKIP,
    LOSSES,
    REPORT,
    LEAVES,
    FIRST_STEP,
    EXAMPLES,
    LENGTH,
    POSITIONS,
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
        "skip",
        "losses",
        "report",
        "leaves",
        "first_step",
        "examples",
        "length",
        "positions",
    )
)
FLOAT32, FLOAT64, INT32, INT64 = range(len(SOURCE_DTYPES))
DENSE, INDEX, BAG, RANDOM = range(len(INPUT_KINDS))
INDEX_OUT_OF_RANGE, ROWS_FULL = Report.INDEX_OUT_OF_RANGE, Report.ROWS_FULL
BAG_FULL, NO_MATRIX = Report.BAG_FULL, Report.NO_MATRIX
#: Bytes of the records of inputs and claims.
INPUT_BYTES, CLAIM_BYTES = 8 * INPUT, 24
# The words of an input's record.
KIND, DTYPE, SOURCE, STRIDE, ELEMENTS, DESTINATION, LIMIT, MODE, STARTS = range(INPUT)
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
def load_reals(frame, dtype, source, count, destination):
    if word(frame, REAL) == FLOAT32:
        convert(source, dtype, count, destination, float32(0))
    else:
        convert(source, dtype, count, destination, float64(0))


@njit(**OPTIONS)
def load_indices(frame, record, number, source, dtype, begin, count, destination, place):
    """Copy indices, each of which must be below the limit; returns a status. The first is number ``place`` of the input."""
    limit = word(record, LIMIT)
    for i in range(count):
        index = word(source, begin + i) if dtype == INT64 else int(load(source, begin + i, int32(0)))
        if index < 0 or index >= limit:
            return report(frame, INDEX_OUT_OF_RANGE, number, place + i, index)
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
def load_bags(frame, record, number, source, examples, n):
    """Copy the bags of ``n`` examples (where their address is 0, of the first one), one after the other; returns a status.

    Where they stand in their source is all that is noted of bags that only draws read.
    """
    bag = word(record, DESTINATION)
    each, begins, ends = word(bag, BAGS) // n, word(source, 1), word(source, 2)
    size = 8 if word(source, 4) == INT64 else 4
    count = at = 0
    store(bag, BAG_DTYPE, word(source, 4))
    for e in range(n):
        first = (word(examples, e) if examples != 0 else 0) * each
        for b in range(first, first + each):
            store(word(bag, PLACES), 2 * at, word(source, 0) + size * word(begins, b))
            store(word(bag, PLACES), 2 * at + 1, word(source, 0) + size * word(ends, b))
            count += word(ends, b) - word(begins, b)
            at += 1
    if word(record, STRIDE) == 0:
        return 0
    if count > word(bag, BAG_CAPACITY):
        return report(frame, BAG_FULL, number, 0, count)
    item = 4 if word(frame, REAL) == FLOAT32 else 8
    at = bags = 0
    for e in range(n):
        first = (word(examples, e) if examples != 0 else 0) * each
        for b in range(first, first + each):
            begin = word(begins, b)
            part = word(ends, b) - begin
            indices = word(bag, INDICES) + 8 * at
            status = load_indices(frame, record, number, word(source, 0), word(source, 4), begin, part, indices, at)
            if status != 0:
                return status
            weights = word(bag, WEIGHTS) + item * at
            if item == 4:
                load_weights(weights, word(source, 3), word(source, 5), begin, part, float32(0))
            else:
                load_weights(weights, word(source, 3), word(source, 5), begin, part, float64(0))
            store(word(bag, OFFSETS), bags, at)
            bags += 1
            at += part
    store(word(bag, OFFSETS), bags, at)
    store(bag, BAG_COUNT, at)
    return 0


@njit(**OPTIONS)
def load_key(record, source, step):
    """Put together the key of a random input."""
    key = word(record, DESTINATION)
    store(key, 0, word(source, 0))
    store(key, 1, word(source, 1))
    store(key, 2, step)


@njit(**OPTIONS)
def load_row(frame, record, number, source, n):
    """Bring a row of an input's elements to place ``n`` of where the program expects them; returns a status."""
    count = word(record, ELEMENTS)
    at = n * count
    if word(record, KIND) == INDEX:
        destination = word(record, DESTINATION) + 8 * at
        return load_indices(frame, record, number, source, word(record, DTYPE), 0, count, destination, at)
    destination = word(record, DESTINATION) + (4 if word(frame, REAL) == FLOAT32 else 8) * at
    load_reals(frame, word(record, DTYPE), source, count, destination)
    return 0


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def forward(frame):
    inputs = word(frame, INPUTS)
    for record in range(inputs, word(frame, INPUTS + 1), INPUT_BYTES):
        status = load_for_pass(frame, record, (record - inputs) // INPUT_BYTES)
        if status != 0:
            return status
    walk(frame, FORWARD)
    walk(frame, UPDATE)
    return 0


@njit(**OPTIONS)
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
