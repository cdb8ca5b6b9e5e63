"""A sample of random graphs on every backend; ``tests/random_graphs.py`` runs more."""

import pytest
import random_graphs
from conftest import SEED

pytestmark = pytest.mark.variants

COUNTS = {"reference": 0}


def test_against_the_reference(backend):
    for n in range(COUNTS.get(backend, 150)):
        random_graphs.against_reference(SEED + n, backend)


def test_training_equals_steps(backend):
    moved = [random_graphs.training_equals_steps(SEED + n, backend) for n in range(100)]
    assert len(moved) == 100


@pytest.mark.slow
def test_against_finite_differences():
    checked = [random_graphs.against_differences(SEED + n) for n in range(150)]
    assert sum(error > 0 for error in checked) > 75, "most graphs should have something to compare"
