"""Threads that share out the runs of each batch, by the tables of :mod:`wyrm.native_runs`.

A batch is cut into shards by its length alone, each with gradients of its own, which are merged in order: so the number of
threads changes no bit.
"""

from numba import float64

from wyrm.memory import Report
from wyrm.native_runs import TEAM
from wyrm_numba import runs
from wyrm_numba.apart import apart
from wyrm_numba.interpreter import LOSSES
from wyrm_numba.options import inlined
from wyrm_numba.runs import run_joined, run_update
from wyrm_numba.words import compare_and_set, count_up, load, publish, seen, store, word, yield_core

SHARDS, COUNT, UPDATE, BATCH_SIZE, THREADS, TAKEN, STATUSES, MADE, FAILED, STATUS, BATCHES, ARRIVED, ABANDONED = range(
    len(TEAM)
)
GAVE_UP = Report.ABANDONED
#: How often a thread looks for the others before it lets somebody else have the core.
SPINS = 2000
#: Words of a cache line.
LINE = 8


@apart
def keep_losses(shard, back):
    """Keep the losses of a shard's parts; where ``back`` is not 0, put them back."""
    kept = word(shard, runs.KEPT)
    for p in range(word(shard, runs.COUNT)):
        frame = word(word(shard, runs.PARTS), p)
        if back != 0:
            store(frame, LOSSES, load(kept, p, float64(0)))
        else:
            store(kept, p, load(frame, LOSSES, float64(0)))
    return 0


@apart
def run_shards(team, thread, order, first, stop, batch):
    """Run the shards that no other thread has taken, those first that this thread had before; returns the number of runs."""
    length, count = min(word(team, BATCH_SIZE), stop - first), word(team, COUNT)
    made = 0
    for i in range(count):
        number = (thread * count // word(team, THREADS) + i) % count
        if compare_and_set(word(team, TAKEN), number, batch, batch + 1):
            shard = word(word(team, SHARDS), number)
            keep_losses(shard, 0)
            begin, end = length * number // count, length * (number + 1) // count
            store(word(team, STATUSES), number, run_joined(shard, order, first + begin, first + end))
            made += end - begin
    return made


@apart
def finish_batch(team, batch):
    """What the thread that comes last does for all: the step, or what there is to be said about a failure."""
    count = word(team, COUNT)
    failed = 0
    while failed < count and word(word(team, STATUSES), failed) == 0:
        failed += 1
    status = word(word(team, STATUSES), failed) if failed < count else run_update(word(team, UPDATE), batch)
    store(team, FAILED, failed)
    store(team, STATUS, status)
    if status != 0:
        for s in range(count):
            keep_losses(word(word(team, SHARDS), s), 1)
    return 0


@inlined
def run_team(team, thread, order, start, stop):
    """The runs from start to before stop, together with the other threads."""
    for first in range(start, stop, word(team, BATCH_SIZE)):
        batch = seen(team, BATCHES)
        made = run_shards(team, thread, order, first, stop, batch)
        if count_up(team, ARRIVED) + 1 == word(team, THREADS):
            finish_batch(team, first // word(team, BATCH_SIZE))
            store(team, ARRIVED, 0)
            publish(team, BATCHES, batch + 1)
        spins = 0
        while seen(team, BATCHES) == batch:
            if seen(team, ABANDONED) != 0:
                return GAVE_UP
            spins += 1
            if spins > SPINS:
                yield_core()
        if word(team, STATUS) != 0:
            return word(team, STATUS)
        own = word(team, MADE) + 8 * LINE * thread
        store(own, 0, word(own, 0) + made)
    return 0
