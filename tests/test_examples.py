"""The examples do what they say, on every backend."""

import digits_of_pi
import own_optimizer
import pytest
from linear_regression import regression

import wyrm


def test_digits_of_pi(backend):
    assert digits_of_pi.train(backend) > 0.75


def test_linear_regression(backend):
    assert regression(backend) == pytest.approx((3, 5), abs=0.05)


def test_an_optimizer_of_ones_own(backend):
    assert own_optimizer.train(backend) < 0.01
    node = wyrm.ParameterNode(1.0)
    with pytest.raises(wyrm.OptionError, match="momentum"):
        own_optimizer.Lion(0.1, [node], momentum=0.5)
