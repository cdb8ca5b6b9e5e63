// W1: linear regression by stochastic gradient descent. parameters: slope and intercept.

static const float RATE = 0.1f;

double regression(float *parameters, const float *x, const float *y, long start, long stop) {
    float slope = parameters[0], intercept = parameters[1];
    double sum = 0;
    for (long n = start; n < stop; n++) {
        float error = slope * x[n] + intercept - y[n];
        slope -= 2 * RATE * x[n] * error; // in this order, the product with x does not wait for the error
        intercept -= 2 * RATE * error;
        sum += error * error;
    }
    parameters[0] = slope;
    parameters[1] = intercept;
    return sum;
}
