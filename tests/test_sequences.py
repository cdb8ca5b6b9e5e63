"""Random sequences of what users do find the same whether what earlier calls have left ready is used or thrown away."""

import logging

import pytest
import random_sequences

import wyrm
from wyrm.optim import Optimizer
from wyrm.training.kept import HeldFeed


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("wyrm"), "disabled", True)
    monkeypatch.setattr(logging.getLogger("wyrm.fit"), "disabled", True)


def test_what_is_kept_changes_nothing():
    name = wyrm.get_backend().name
    for seed in range(24):
        assert random_sequences.play(random_sequences.sequence(seed, 32), name) is None, f"seed {seed}"


def test_native_code_finds_what_the_reference_does():
    name = wyrm.get_backend().name
    for seed in range(100, 112):
        assert random_sequences.play(random_sequences.sequence(seed, 32), name, "reference") is None, f"seed {seed}"


def _unchanged(feed, data, traced, seed=0):
    return True


@pytest.mark.parametrize(
    ("owner", "method", "fault"), [(HeldFeed, "replace", _unchanged), (Optimizer, "expire", lambda self: None)]
)
def test_faults_are_found(monkeypatch, owner, method, fault):
    """Data that do not take the place of those before; a step that is not bound anew once something is frozen."""
    monkeypatch.setattr(owner, method, fault)
    against = None if owner is HeldFeed else "reference"
    cases = (random_sequences.sequence(seed, 32) for seed in range(30))
    assert any(random_sequences.play(case, wyrm.get_backend().name, against) for case in cases)
