"""The elementwise kernels, as functions of single elements: one for each, named as in the kernel table."""

import math

from numba import njit

from wyrm_numba.options import OPTIONS
from wyrm_numba.words import real


@njit(**OPTIONS)
def add(a, b):
    return a + b


@njit(**OPTIONS)
def subtract(a, b):
    return a - b


@njit(**OPTIONS)
def multiply(a, b):
    return a * b


@njit(**OPTIONS)
def divide(a, b):
    return a / b


@njit(**OPTIONS)
def negate(a):
    return -a


@njit(**OPTIONS)
def exp(a):
    return math.exp(a)


@njit(**OPTIONS)
def log(a):
    return math.log(a)


@njit(**OPTIONS)
def sqrt(a):
    return math.sqrt(a)


@njit(**OPTIONS)
def absolute(a):
    return abs(a)


@njit(**OPTIONS)
def tanh(a):
    return math.tanh(a)


@njit(**OPTIONS)
def sigmoid(a):
    one = real(1, a)
    e = math.exp(-abs(a))  # cannot overflow
    return (one if a >= 0 else e) / (one + e)


@njit(**OPTIONS)
def softplus(a):
    return (a if a > 0 or a != a else real(0, a)) + math.log1p(math.exp(-abs(a)))


@njit(**OPTIONS)
def power(a, b):
    return math.pow(a, b)


@njit(**OPTIONS)
def maximum(a, b):
    return a if a > b or a != a else b


@njit(**OPTIONS)
def minimum(a, b):
    return a if a < b or a != a else b


@njit(**OPTIONS)
def greater(a, b):
    return real(1, a) if a > b else real(0, a)


@njit(**OPTIONS)
def select(condition, a, b):
    return a if condition != 0 else b


@njit(**OPTIONS)
def copy(a):
    return a
