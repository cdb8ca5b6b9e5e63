// What steps do to rows that they do not touch: see clocks.h.

#include "clocks.h"

enum { SHORTEST = 3 }; // the shortest stretches that are kept put together have 2**3 steps

static Missed one_after_another(Missed first, Missed second) {
    return (Missed){
        second.keep * first.keep,
        second.keep * first.move + second.move * first.fade,
        second.fade * first.fade,
    };
}

static Missed one_step(const Clock *clock, int64_t step) {
    const double rate = clock->rates[step & clock->mask];
    return (Missed){1 - rate * clock->decay, rate * clock->momentum, clock->momentum};
}

// The 2**length steps from one on.
static Missed *stretch(const Clock *clock, int64_t step, int length) {
    const int64_t count = (clock->mask + 1) >> length;
    return (Missed *)clock->stretches + count + ((step >> length) & (count - 1));
}

Missed wyrm_missed(const Clock *clock, int64_t since) {
    const int64_t now = clock->now;
    int64_t step = since < now - clock->mask - 1 ? now - clock->mask - 1 : since;
    Missed all = {1, 0, 1};
    while (step < now) {
        int length = 63 - __builtin_clzll((uint64_t)(now - step));
        if (step && __builtin_ctzll((uint64_t)step) < length) length = __builtin_ctzll((uint64_t)step);
        if (length < SHORTEST) length = 0;
        all = one_after_another(all, length ? *stretch(clock, step, length) : one_step(clock, step));
        step += (int64_t)1 << length;
    }
    return all;
}

int64_t wyrm_tick(Clock *clock, int64_t rows, double rate, int64_t *first) {
    const int64_t step = __atomic_fetch_add(&clock->now, 1, __ATOMIC_RELAXED), now = step + 1;
    clock->rates[step & clock->mask] = rate;
    for (int length = SHORTEST; !(now & (((int64_t)1 << length) - 1)) && (int64_t)1 << length <= clock->mask + 1; length++) {
        const int part = length == SHORTEST ? 0 : length - 1;
        Missed all = {1, 0, 1};
        for (int64_t begin = now - ((int64_t)1 << length); begin < now; begin += (int64_t)1 << part)
            all = one_after_another(all, part ? *stretch(clock, begin, part) : one_step(clock, begin));
        *stretch(clock, now - ((int64_t)1 << length), length) = all;
    }
    if (now & clock->every) return 0;
    *first = clock->next;
    clock->next += clock->due;
    if (clock->next >= rows) clock->next -= rows;
    return clock->due;
}
