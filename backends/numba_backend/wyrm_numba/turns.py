"""Passes that begin at once if they may, and what sets inputs, by the words of :mod:`wyrm.turns`.

They keep Python's lock (the GIL), so the words are looked at and written by one thread at a time.
"""

from numba import float64, int64, types

from wyrm.gradient_use import IN_USE
from wyrm.leaves import Leaves
from wyrm.turns import CHANGE, NOT_AT_ONCE, NOW
from wyrm_numba.interpreter import DATE, INPUT_BYTES, INPUTS, LEAVES, SOURCE, TIME, backward, forward
from wyrm_numba.options import inlined
from wyrm_numba.words import store, word

OPEN, READY, ROOM, GRAPHS = (Leaves.HEADER.index(name) for name in ("open", "ready", "capacity", "graphs"))
#: Bytes of what stands before the cells.
HEADER = 8 * len(Leaves.HEADER)
_this_thread = types.ExternalFunction("PyThread_get_thread_ident", int64())


@inlined
def is_fresh(frame):
    date, time, leaves = word(word(frame, DATE), 0), word(frame, TIME), word(frame, LEAVES)
    if date <= 0 or word(time, CHANGE) >= date:
        return 0
    dates = leaves + 8 * word(leaves - HEADER, ROOM)
    for record in range(word(frame, INPUTS), word(frame, INPUTS + 1), INPUT_BYTES):
        if word(dates + word(record, SOURCE), 0) >= date:
            return 0
    return 1


@inlined
def forward_at_once(frame):
    date = word(frame, DATE)
    if word(word(frame, LEAVES) - HEADER, READY) != date:
        return NOT_AT_ONCE
    time = word(frame, TIME)
    store(time, NOW, word(time, NOW) + 1)
    store(date, 0, word(time, NOW))
    status = forward(frame)
    if status != 0:
        store(date, 0, 0)
    return status


@inlined
def are_in_use(bound):
    """Whether somebody works on a gradient.

    A pass is bound to the words: its frame, how many gradients it works on, where each one's word is that says who does.
    """
    found = 0
    for n in range(word(bound, 1)):
        found |= word(word(bound, 2 + n), 0)
    return found != 0


@inlined
def backward_at_once(bound, weight):
    frame = word(bound, 0)
    if word(word(frame, LEAVES) - HEADER, OPEN) == 0 or is_fresh(frame) == 0:
        return NOT_AT_ONCE
    return IN_USE if are_in_use(bound) else backward(frame, weight)


@inlined
def step(bound):
    """An optimizer's step that works on gradients alone; bound likewise."""
    return IN_USE if are_in_use(bound) else forward(word(bound, 0))


@inlined
def may_set(setter):
    """Whether an input may be set, by who calls; then it is dated.

    A setter has the words: where the leaves are, how many graphs had them before, which cell it is, where the time is.
    """
    leaves, number = word(setter, 0), word(setter, 2)
    owner = word(leaves, OPEN)
    if owner == 0 or word(owner, 0) != _this_thread() or word(leaves, GRAPHS) != word(setter, 1):
        return 0
    store(leaves + HEADER, word(leaves, ROOM) + number, word(word(setter, 3), NOW))
    return 1


@inlined
def set_real(setter, value):
    if may_set(setter) == 0:
        return 0
    store(word(setter, 0) + HEADER, word(setter, 2), float64(value))
    return 1


@inlined
def set_index(setter, value):
    if may_set(setter) == 0:
        return 0
    store(word(setter, 0) + HEADER, word(setter, 2), int64(value))
    return 1
