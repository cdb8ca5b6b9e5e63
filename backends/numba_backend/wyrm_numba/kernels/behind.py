"""Rows that are behind: read as they are after all steps, and brought up to date."""

from wyrm_numba.kernels.bags import BAGS, INDICES, OFFSETS, share, shares
from wyrm_numba.kernels.clocks import LAST, MOVING, NOW, RATE, count_step, missed_since
from wyrm_numba.kernels.elementwise import add_scaled, fill_row, scaled_row
from wyrm_numba.options import inlined, linked
from wyrm_numba.words import load, real, row, store, word


@linked
def catch_up_row(value, velocity, clock, number, cols, zero):
    """Bring a row up to date."""
    keep, move, fade = missed_since(clock, word(word(clock, LAST), number))
    scaled_row(value, real(keep, zero), value, cols, zero)
    if word(clock, MOVING) >= 0:
        add_scaled(value, real(-move, zero), velocity, cols, zero)
        scaled_row(velocity, real(fade, zero), velocity, cols, zero)
    store(word(clock, LAST), number, word(clock, NOW))


@linked
def store_current(out, value, velocity, clock, number, cols, zero):
    """A row as it is after all steps; computed as when it is brought up to date."""
    keep, move, _ = missed_since(clock, word(word(clock, LAST), number))
    scaled_row(out, real(keep, zero), value, cols, zero)
    if word(clock, MOVING) >= 0:
        add_scaled(out, real(-move, zero), velocity, cols, zero)


@linked
def add_current(out, factor, value, velocity, clock, number, cols, zero):
    """Add a row as it is after all steps, times a factor."""
    keep, move, _ = missed_since(clock, word(word(clock, LAST), number))
    add_scaled(out, factor * real(keep, zero), value, cols, zero)
    if word(clock, MOVING) >= 0:
        add_scaled(out, factor * real(-move, zero), velocity, cols, zero)


@inlined
def current_row(p, i, number, zero):
    clock = word(p, 16)
    if word(p, 2) != 0:
        add_current(
            row(p, 0, i, zero), real(1, zero), row(p, 1, number, zero), row(p, 2, number, zero), clock, number, word(p, 6), zero
        )
    else:
        store_current(row(p, 0, i, zero), row(p, 1, number, zero), row(p, 2, number, zero), clock, number, word(p, 6), zero)


@inlined
def current(p, zero):
    for i in range(word(p, 5)):
        current_row(p, i, i, zero)


@inlined
def current_rows(p, zero):
    for i in range(word(p, 5)):
        current_row(p, i, word(word(p, 20), i * word(p, 23)), zero)


@inlined
def current_bag(p, zero):
    clock, bag, offsets = word(p, 16), word(p, 20), word(word(p, 20), OFFSETS)
    for b in range(word(bag, BAGS)):
        factor, divisor = shares(bag, b, word(p, 3), zero)
        if word(p, 2) == 0:
            fill_row(row(p, 0, b, zero), word(p, 6), zero)
        for i in range(word(offsets, b), word(offsets, b + 1)):
            number = word(word(bag, INDICES), i)
            weight = share(bag, i, factor, divisor, zero)
            add_current(
                row(p, 0, b, zero), weight, row(p, 1, number, zero), row(p, 2, number, zero), clock, number, word(p, 6), zero
            )


@inlined
def tick(p, zero):
    clock, rows = word(p, 16), word(p, 5)
    due, number = count_step(clock, rows, real(load(word(p, 12), word(clock, RATE), zero), 0.0))
    for _ in range(due):
        if word(word(clock, LAST), number) < word(clock, NOW):
            catch_up_row(row(p, 0, number, zero), row(p, 1, number, zero), clock, number, word(p, 6), zero)
        number = number + 1 if number + 1 < rows else 0
