"""The examples do what they say, the small ones on every backend."""

import digits_of_pi
import numpy as np
import own_optimizer
import pytest
import sequence_recommender
import sequences
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


@pytest.fixture(scope="module")
def walks():
    walks, best = sequences.generated(500, num_items=40, length=12)
    return *sequences.split(walks, 0.2, seed=1), best


@pytest.mark.parametrize("model", ["lstm", "ewma"])
@pytest.mark.parametrize("loss", list(sequence_recommender.LOSSES))
def test_sequence_recommender(walks, model, loss):
    """Near the best ranking there is, where one by popularity is far from it; nobody is better, but for luck."""
    train, test, best = walks
    recommender = sequence_recommender.Recommender(40, model, length=12)
    recommender.fit(train, loss, num_threads=1)
    popularity = np.bincount(np.concatenate(train), minlength=40)
    ranks = [sum(popularity[n] >= popularity[s[-1]] for n in range(40) if n not in s[:-1]) for s in test]
    assert 2 * np.mean(1 / np.array(ranks)) < 0.8 * best < recommender.mrr(test) < best + 0.1
    assert not set(recommender.recommend(test[0], k=28)) & set(test[0])


def test_sequences_of_a_recommender(tmp_path):
    """Pieces as sbr cuts them, the first one short; ties of time in the file's order; ids of all files numbered together."""
    assert sequence_recommender.pieces(list(range(8)), 3) == [[2, 3, 4], [5, 6, 7]]
    assert sequence_recommender.pieces(list(range(7)), 4) == [[0, 1, 2], [3, 4, 5, 6]]
    for name, rows in {"a": "u,x,2\nv,y,1\nu,z,1\nu,w,2\n", "b": "t,y,0\n"}.items():
        (tmp_path / name).write_text("user_id,item_id,timestamp\n" + rows)
    (first, second), item_ids = sequences.read([tmp_path / "a", tmp_path / "b"])
    assert [[item_ids[n] for n in s] for s in first] == [["y"], ["z", "x", "w"]] and second == [[2]]
