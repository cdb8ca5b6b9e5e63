// W2: matrix factorization by stochastic gradient descent; a step touches one row of each table.

enum { DIMENSION = 32 };
static const float RATE = 0.01f;

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

double factorization(float *users, float *items, const int *user, const int *item, const float *ratings, long start, long stop) {
    double sum = 0;
    for (long n = start; n < stop; n++)
        sum += step(users + (long)user[n] * DIMENSION, items + (long)item[n] * DIMENSION, ratings[n]);
    return sum;
}
