"""What steps do to rows that they do not touch.

:mod:`wyrm.clocks` says what a clock keeps, and computes the same to the bit.
"""

from numba import float64, int64

from wyrm_numba.options import exact
from wyrm_numba.words import count_up, load, store, word

# The words of a clock's header.
NOW, LAST, RATES, STRETCHES, MASK, DECAY, MOMENTUM, RATE, MOVING, EVERY, DUE, NEXT = range(12)
# The shortest stretches that are kept put together.
SHORTEST = 8


@exact
def one_after_another(keep, move, fade, next_keep, next_move, next_fade):
    """What two stretches come to that follow each other."""
    return next_keep * keep, next_keep * move + next_move * fade, next_fade * fade


@exact
def one_step(clock, step):
    """What a step comes to."""
    rate = load(word(clock, RATES), step & word(clock, MASK), float64(0))
    momentum = load(clock, MOMENTUM, float64(0))
    return float64(1) - rate * load(clock, DECAY, float64(0)), rate * momentum, momentum


@exact
def stretch_place(clock, step, length):
    """Where it stands what so many steps from one on come to, as a number of triples."""
    count = (word(clock, MASK) + 1) // length
    return 3 * (count + (step // length & (count - 1)))


@exact
def stretch(clock, step, length):
    """What so many steps from one on come to."""
    if length < SHORTEST:
        return one_step(clock, step)
    place, stretches = stretch_place(clock, step, length), word(clock, STRETCHES)
    zero = float64(0)
    return load(stretches, place, zero), load(stretches, place + 1, zero), load(stretches, place + 2, zero)


@exact
def missed_since(clock, since):
    """What the steps come to that were made since a row was up to date: keep, move, fade."""
    now = word(clock, NOW)
    step = max(since, now - word(clock, MASK) - 1)
    keep, move, fade = float64(1), float64(0), float64(1)
    while step < now:
        length = int64(1)
        while (step & (2 * length - 1)) == 0 and step + 2 * length <= now:
            length *= 2
        if length < SHORTEST:
            length = int64(1)
        keep, move, fade = one_after_another(keep, move, fade, *stretch(clock, step, length))
        step += length
    return keep, move, fade


@exact
def count_step(clock, rows, rate):
    """Count a step; returns how many rows are to be brought up to date now, and the first of them."""
    step = count_up(clock, NOW)
    now, capacity = step + 1, word(clock, MASK) + 1
    store(word(clock, RATES), step & (capacity - 1), rate)
    length = int64(SHORTEST)
    while now % length == 0 and length <= capacity:
        part = int64(1) if length == SHORTEST else length // 2
        keep, move, fade = float64(1), float64(0), float64(1)
        for begin in range(now - length, now, part):
            keep, move, fade = one_after_another(keep, move, fade, *stretch(clock, begin, part))
        place, stretches = stretch_place(clock, now - length, length), word(clock, STRETCHES)
        store(stretches, place, keep)
        store(stretches, place + 1, move)
        store(stretches, place + 2, fade)
        length *= 2
    first, due = word(clock, NEXT), word(clock, DUE)
    if now & word(clock, EVERY):
        return int64(0), first
    following = first + due
    store(clock, NEXT, following - rows if following >= rows else following)
    return due, first
