"""The examples do what they say: the first ones on every backend, the others, which take more steps, on the default one."""

import digits_of_pi
import factorization_recommender
import hogwild_threads
import numpy as np
import own_optimizer
import pytest
import sequence_recommender
import sequences
import skip_gram
import sparse_logistic_regression
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


@pytest.mark.parametrize("loss", ["warp", "bpr"])
def test_factorization(loss):
    choices = factorization_recommender.generated(users=200, items=150, each=20)
    model = factorization_recommender.Recommender(choices, loss)
    model.fit(15, seed=1)
    rankings = model.scores(), factorization_recommender.popular(choices), choices.truth
    found, popular, best = (np.array(factorization_recommender.ranked(scores, choices)) for scores in rankings)
    assert (found > popular + 0.5 * (best - popular)).all(), (found, popular, best)


def test_measures_of_rankings():
    """Against their definitions, user by user."""
    choices = factorization_recommender.generated(users=30, items=40, each=10)
    scores = np.random.default_rng(2).permutation(1200).reshape(30, 40) + 5000.0 * (choices.truth > 1)
    precisions, areas = [], []
    for user in np.unique(choices.test[:, 0]):
        known, relevant = (set(pairs[pairs[:, 0] == user, 1].tolist()) for pairs in (choices.train, choices.test))
        others = [item for item in range(40) if item not in known]
        best = sorted(others, key=lambda item: -scores[user, item])[:4]
        precisions.append(len(relevant & set(best)) / 4)
        areas.append(np.mean([scores[user, r] > scores[user, o] for r in relevant for o in others if o not in relevant]))
    expected = np.mean(precisions), np.mean(areas)
    assert factorization_recommender.ranked(scores, choices, k=4) == pytest.approx(expected)


def test_ratings_from_a_file(tmp_path):
    path = tmp_path / "ratings.csv"
    rows = [f"u{n % 7},i{n % 11},{1 + n % 5},0" for n in range(300)]
    path.write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))
    choices = factorization_recommender.from_file(path, 4.0, seed=0)
    assert choices.shape == (7, 11)
    pairs = np.concatenate([choices.train, choices.test])
    assert len(pairs) == len({(row.split(",")[0], row.split(",")[1]) for row in rows if float(row.split(",")[2]) >= 4})
    factorization_recommender.Recommender(choices).fit(1)


@pytest.mark.parametrize("pairs", [False, True])
def test_clicks(pairs):
    """What a stream leaves to be learned; where pairs matter, the factorization machine knows what the linear model cannot."""
    found = {}
    for dimensions in (0, 4):
        data = sparse_logistic_regression.Generated(values=20, pairs=pairs, chunks=10)
        model = sparse_logistic_regression.Clicks(data.rows, data.fields, dimensions)
        found[dimensions] = model.fit(data, seed=1) - np.mean(data.least)
    assert min(found.values()) > -0.005
    assert found[0] < 0.02 or pairs
    assert found[4] < 0.5 * found[0] or not pairs


def test_factorization_machine(rng):
    """Against the sum over pairs."""
    model = sparse_logistic_regression.Clicks(30, 4, dimensions=3)
    values = {node.name: node.value for node in model.loss.parameters()}
    rows = rng.integers(0, 30, (5, 4))
    products = [[values["factors"][a] @ values["factors"][b] for n, a in enumerate(r) for b in r[:n]] for r in rows]
    found = wyrm.evaluate(model.logit, {model.features: rows})[:, 0, 0]
    np.testing.assert_allclose(found, np.sum(products, axis=1), rtol=1e-4, atol=1e-6)


def test_clicks_from_a_file(tmp_path):
    path = tmp_path / "clicks.csv"
    path.write_text("site,clicked,device\n" + "a,1,x\nb,0,x\nb,0,y\n" * 200)
    data = sparse_logistic_regression.FromFile(path, rows=1000, size=64)
    model = sparse_logistic_regression.Clicks(data.rows, data.fields)
    assert model.fit(data) < 0.3
    assert np.count_nonzero(model.weights.value) == 4


def test_skip_gram():
    text, topics = skip_gram.generated(topics=4, words=10, sentences=800)
    model = skip_gram.SkipGram(text, dimensions=16, buckets=4096)
    assert skip_gram.agreement(model, topics) < 0.6  # by chance, a quarter
    word = model.words[3]
    assert model.parts_of(word)[0] == 3
    assert len(model.parts_of(word)) == 1 + 6 + 5 + 4 + 3  # words of six letters, and a mark at each end
    losses = model.fit(3, seed=1)
    assert losses[2] < losses[0]
    assert skip_gram.agreement(model, topics) > 0.95
    word = model.words[0]
    assert model.nearest(word[:-1] + "_", k=1) == [word]  # seen never, but most of its n-grams


def test_hogwild_threads():
    errors = hogwild_threads.train(threads=3, number=12_000)
    assert len(errors) == 12_000
    assert np.mean(errors[-1000:]) < 3 * hogwild_threads.NOISE**2 < np.mean(errors[:1000])


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
