"""Runs over a feed: programs that take the examples of an order, by the tables of :mod:`wyrm.native_runs`."""

import math

from numba import float32, float64

from wyrm.memory import Report
from wyrm.native_runs import JOINED, ORDER
from wyrm_numba.apart import apart
from wyrm_numba.interpreter import (
    BACKWARD,
    BAG,
    ELEMENTS,
    EXAMPLES,
    FIRST_STEP,
    FLOAT32,
    FORWARD,
    INPUT_BYTES,
    INPUTS,
    KIND,
    LENGTH,
    LOSS,
    LOSSES,
    MODE,
    ORDER_OUT_OF_RANGE,
    POSITIONS,
    RANDOM,
    REAL,
    REPORT,
    SINKS,
    SKIP,
    SOURCE,
    STARTS,
    STRIDE,
    UPDATE,
    WHOLE,
    WHOLE_PLACES,
    claim_gradients,
    load_bags,
    load_key,
    load_reals,
    load_row,
    point_to_rows,
    report,
    walk,
)
from wyrm_numba.options import inlined
from wyrm_numba.words import call_whole, load, prefetch, store, word

ORDER_EXAMPLES, WIDTH, RUNS = (ORDER.index(name) for name in ("examples", "width", "runs"))
PARTS, COUNT, CHOICE, STEP, BATCH_SIZE, FAILED, KEPT, REACHED = (
    JOINED.index(name) for name in ("parts", "count", "choice", "update", "batch_size", "failed", "losses", "position")
)
NOT_FINITE = Report.NOT_FINITE
BY_EXAMPLE, BY_POSITION = 0, 1
SINK_BYTES = 56
#: How many runs ahead inputs are fetched into the cache: in random order, each is a miss.
AHEAD = 16


@apart
def drain(frame, sink, example, number):
    """Copy an example's part of an output to where its results go."""
    to = word(sink, 0) + example * word(sink, 1)
    item = 4 if word(frame, REAL) == FLOAT32 else 8
    for i in range(word(sink, 3)):
        row, n = word(sink, 2) + number * word(sink, 6) + i * word(sink, 5) * item, word(sink, 4)
        load_reals(frame, word(frame, REAL), row, n, to + i * n * item)
    return 0


@inlined
def row_of(record, example):
    """The row of a source in which an example's values are."""
    starts = word(record, STARTS)
    return word(starts, example) if starts != 0 else example


@apart
def load_for_run(frame, record, number, examples, position):
    """Bring an input of the run's examples to where the program expects it; returns a status."""
    source, kind = word(record, SOURCE), word(record, KIND)
    if kind == BAG:
        return load_bags(frame, record, number, source, examples, word(frame, EXAMPLES))
    if kind == RANDOM:
        load_key(record, source, word(frame, FIRST_STEP) + word(examples, 0))
        return 0
    if word(record, MODE) != BY_EXAMPLE:
        row = position if word(record, MODE) == BY_POSITION else 0
        return load_row(frame, record, number, source + row * word(record, STRIDE), 0)
    for n in range(word(frame, EXAMPLES)):
        at = source + row_of(record, word(examples, n)) * word(record, STRIDE)
        status = load_row(frame, record, number, at, n)
        if status != 0:
            return status
    return 0


@inlined
def prefetch_for_run(record, example, position):
    """Ask for the cache line that an example's input begins in, if there is such an example: where it begins is read."""
    if word(record, KIND) == BAG:
        prefetch(word(word(record, SOURCE), 1) + 8 * example * word(record, ELEMENTS))
        prefetch(word(word(record, SOURCE), 2) + 8 * example * word(record, ELEMENTS))
    else:
        row = position if word(record, MODE) == BY_POSITION else row_of(record, example)
        prefetch(word(record, SOURCE) + row * word(record, STRIDE))


@inlined
def may_skip(frame):
    """Whether what follows the forward section may be passed over."""
    address = word(frame, SKIP)
    if address == 0:
        return False
    if word(frame, REAL) == FLOAT32:
        return not load(address, 0, float32(0)) > 0
    return not load(address, 0, float64(0)) > 0


@apart
def run_once(frame, examples, position):
    """One run; returns a status before anything has changed."""
    if position >= word(frame, POSITIONS):
        return report(frame, ORDER_OUT_OF_RANGE, 0, 0, position)
    for n in range(word(frame, EXAMPLES)):
        example = word(examples, n)
        if example < 0 or example >= word(frame, LENGTH):
            return report(frame, ORDER_OUT_OF_RANGE, 0, n, example)
    inputs = word(frame, INPUTS)
    for record in range(inputs, word(frame, INPUTS + 1), INPUT_BYTES):
        status = load_for_run(frame, record, (record - inputs) // INPUT_BYTES, examples, position)
        if status != 0:
            return status
    point_to_rows(frame)
    walk(frame, FORWARD)
    loss_address, loss = word(frame, LOSS), 0.0
    if loss_address != 0:
        if word(frame, REAL) == FLOAT32:
            loss = float64(load(loss_address, 0, float32(0)))
        else:
            loss = load(loss_address, 0, float64(0))
        if not math.isfinite(loss):
            return report(frame, NOT_FINITE, word(examples, 0), 0, 0)
    skip = may_skip(frame)
    status = 0 if skip else claim_gradients(frame)
    if status != 0:
        return status
    store(frame, LOSSES, load(frame, LOSSES, float64(0)) + loss)
    if not skip:
        walk(frame, BACKWARD)
        walk(frame, UPDATE)
    for sink in range(word(frame, SINKS), word(frame, SINKS + 1), SINK_BYTES):
        for n in range(word(frame, EXAMPLES)):
            drain(frame, sink, word(examples, n), n)
    return 0


@apart
def run_stretch(frame, order, start, stop, known):
    """The runs from start to before stop, all by one part; those to before ``known`` may be of that part, too."""
    examples, row_bytes = word(order, ORDER_EXAMPLES), 8 * word(order, WIDTH)
    whole = word(frame, WHOLE)
    if whole != 0:  # what it leaves is gone through one by one, and reported
        start = call_whole(whole, (frame, word(frame, WHOLE_PLACES), examples, word(order, WIDTH), start, stop, known))
    for position in range(start, stop):
        if position + AHEAD < known:
            ahead = examples + (position + AHEAD) * row_bytes
            for record in range(word(frame, INPUTS), word(frame, INPUTS + 1), INPUT_BYTES):
                for n in range(word(frame, EXAMPLES)):
                    if 0 <= word(ahead, n) < word(frame, LENGTH):
                        prefetch_for_run(record, word(ahead, n), position + AHEAD)
        status = run_once(frame, examples + position * row_bytes, position)
        if status != 0:
            store(word(frame, REPORT), 4, position)
            return status
    return 0


@apart
def run_update(update, batch):
    """The step that follows a batch."""
    status = run_once(update, 0, batch)
    if status != 0:
        store(word(update, REPORT), 4, batch)
    return status


@apart
def run_joined(joined, order, start, stop):
    """The runs from start to before stop, each by its part, with an update after each batch."""
    choice, update, batch_size = word(joined, CHOICE), word(joined, STEP), word(joined, BATCH_SIZE)
    position = start
    while position < stop:
        store(joined, REACHED, position)
        number = word(choice, position) if choice != 0 else 0
        end = stop
        if update != 0:
            end = min(end, (position // batch_size + 1) * batch_size)
        if choice != 0:
            if number < 0 or number >= word(joined, COUNT):
                frame = word(word(joined, PARTS), 0)
                store(joined, FAILED, 0)
                store(word(frame, REPORT), 4, position)
                return report(frame, ORDER_OUT_OF_RANGE, 0, 0, number)
            same = position + 1
            while same < end and word(choice, same) == number:
                same += 1
            end = same
        status = run_stretch(word(word(joined, PARTS), number), order, position, end, end if choice != 0 else stop)
        if status != 0:
            store(joined, FAILED, number)
            store(joined, REACHED, word(word(word(word(joined, PARTS), number), REPORT), 4))
            return status
        if update != 0 and (end % batch_size == 0 or end == word(order, RUNS)):
            status = run_update(update, (end - 1) // batch_size)
            if status != 0:
                store(joined, FAILED, word(joined, COUNT))
                return status
        position = end
    store(joined, REACHED, stop)
    return 0
