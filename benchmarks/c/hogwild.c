// W5: matrix factorization on several threads, which share the tables without locks (Niu, Recht, Ré and Wright, 2011).
// Each thread takes a contiguous part of the examples. With `ahead` above 0, the rows of the example that many places ahead are
// fetched into the cache.

#include <pthread.h>
#include <stdlib.h>

enum { DIMENSION = 32, LINE = 16 };
static const float RATE = 0.01f;

typedef struct {
    float *users, *items;
    const int *user, *item;
    const float *ratings;
    long start, stop, ahead;
    double sum;
} Share;

static float step(float *restrict user, float *restrict item, float rating) {
    float score = 0;
    for (int d = 0; d < DIMENSION; d++) score += user[d] * item[d];
    float error = score - rating;
    float move = 2 * RATE * error;
    for (int d = 0; d < DIMENSION; d++) {
        float old = user[d];
        user[d] -= move * item[d];
        item[d] -= move * old;
    }
    return error * error;
}

static void fetch(const float *row) {
    for (int d = 0; d < DIMENSION; d += LINE) __builtin_prefetch(row + d, 1);
}

static void *work(void *argument) {
    Share *s = argument;
    for (long n = s->start; n < s->stop; n++) {
        if (s->ahead && n + s->ahead < s->stop) {
            fetch(s->users + (long)s->user[n + s->ahead] * DIMENSION);
            fetch(s->items + (long)s->item[n + s->ahead] * DIMENSION);
        }
        s->sum += step(s->users + (long)s->user[n] * DIMENSION, s->items + (long)s->item[n] * DIMENSION, s->ratings[n]);
    }
    return NULL;
}

double hogwild(long threads, long ahead, float *users, float *items, const int *user, const int *item, const float *ratings,
               long start, long stop) {
    pthread_t *handles = calloc(threads, sizeof *handles);
    Share *shares = calloc(threads, sizeof *shares);
    for (long t = 0; t < threads; t++) {
        long begin = start + (stop - start) * t / threads, end = start + (stop - start) * (t + 1) / threads;
        shares[t] = (Share){users, items, user, item, ratings, begin, end, ahead, 0};
        if (t && pthread_create(handles + t, NULL, work, shares + t)) abort();
    }
    work(shares); // this thread does a share, too
    double sum = shares[0].sum;
    for (long t = 1; t < threads; t++) {
        pthread_join(handles[t], NULL);
        sum += shares[t].sum;
    }
    free(handles);
    free(shares);
    return sum;
}
