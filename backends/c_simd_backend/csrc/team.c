// Threads that share out the runs of each batch. A batch is cut into shards by its length alone, each with gradients of its
// own, which are merged in order: so the number of threads changes no bit.

#include "run.h"

#ifdef _WIN32
#include <windows.h>
#define YIELD() SwitchToThread()
#else
#include <sched.h>
#define YIELD() sched_yield()
#endif

// How often a thread looks for the others before it lets somebody else have the core.
enum { SPINS = 2000 };
// Words of a cache line.
enum { LINE = 8 };

static void pause_core(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

// Runs the shards that no other thread has taken, those first that this thread had before: their memory is in its cache.
// Returns how many runs that were.
static int64_t run_shards(Team *team, int64_t thread, const Order *order, int64_t first, int64_t stop, int64_t batch) {
    const int64_t length = stop - first < team->batch_size ? stop - first : team->batch_size;
    int64_t made = 0;
    for (int64_t i = 0; i < team->count; i++) {
        const int64_t number = (thread * team->count / team->threads + i) % team->count;
        int64_t expected = batch;
        if (!__atomic_compare_exchange_n(
                &team->taken[number], &expected, batch + 1, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            continue;
        Joined *shard = team->shards[number];
        for (int64_t p = 0; p < shard->count; p++) shard->losses[p] = shard->parts[p]->losses;
        const int64_t begin = length * number / team->count, end = length * (number + 1) / team->count;
        team->statuses[number] = run_joined(shard, order, first + begin, first + end);
        made += end - begin;
    }
    return made;
}

// What the thread that comes last does for all: the step, or what there is to be said about a failure.
static void finish_batch(Team *team, int64_t batch) {
    for (int64_t s = 0; s < team->count; s++) {
        team->failed = s;
        team->status = team->statuses[s];
        if (team->status) break;
    }
    if (!team->status) {
        team->failed = team->count;
        team->status = run_update(team->update, batch);
    }
    if (!team->status) return;
    for (int64_t s = 0; s < team->count; s++)
        for (int64_t p = 0; p < team->shards[s]->count; p++)
            team->shards[s]->parts[p]->losses = team->shards[s]->losses[p];
}

int wyrm_run_team(intptr_t address, int64_t thread, intptr_t order_address, int64_t start, int64_t stop) {
    Team *team = (Team *)address;
    const Order *order = (const Order *)order_address;
    for (int64_t first = start; first < stop; first += team->batch_size) {
        const int64_t batch = __atomic_load_n(&team->batches, __ATOMIC_ACQUIRE);
        const int64_t made = run_shards(team, thread, order, first, stop, batch);
        if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == team->threads) {
            finish_batch(team, first / team->batch_size);
            __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&team->batches, batch + 1, __ATOMIC_RELEASE);
        }
        for (int64_t spins = 0; __atomic_load_n(&team->batches, __ATOMIC_ACQUIRE) == batch; spins++) {
            if (__atomic_load_n(&team->abandoned, __ATOMIC_RELAXED)) return ABANDONED;
            if (spins < SPINS)
                pause_core();
            else
                YIELD();
        }
        if (team->status) return (int)team->status;
        team->runs[thread * LINE] += made;
    }
    return 0;
}
