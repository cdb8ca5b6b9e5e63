"""Recommend the next item to a user by the order of what they chose before.

The models and losses are those of the Rust crate sbr. A user's state is an LSTM's, or an exponentially weighted moving average
(EWMA), over the embeddings of the items chosen so far; an item's score is its embedding times the state, plus a bias. Three
losses compare the item that was chosen next with one that is drawn at random; WARP draws up to five times, until one is ranked
too high. Each user's sequence is cut into pieces of at most ``--length`` items, which are the examples of Adagrad.

    python sequence_recommender.py --model lstm --loss warp              # sequences whose best ranking is known
    python sequence_recommender.py --data ratings.csv --length 32        # columns user_id, item_id, timestamp
"""

import argparse

import numpy as np
import sequences as data

import wyrm
from wyrm import nn

DIM = 32
#: As sbr has them; its BPR is the sigmoid itself, where ``nn.losses.bpr`` is the logarithm.
LOSSES = {
    "hinge": lambda positive, negative, drawn: nn.losses.hinge(positive - negative),
    "bpr": lambda positive, negative, drawn: (negative - positive).sigmoid().scalar_sum(),
    "warp": lambda positive, negative, drawn: nn.losses.warp(positive, negative, drawn, tries=5, by_rank=False),
}


class Recommender:
    """A model of sequences over items."""

    def __init__(self, num_items: int, model: str = "lstm", length: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.length, self.seed = length, seed
        self.items = wyrm.ParameterNode(rng.normal(0, 1 / DIM, (num_items, DIM)), name="items")
        self.biases = wyrm.ParameterNode(np.zeros((num_items, 1)), name="biases")
        self.layer = nn.EWMA(DIM, rng=rng) if model == "ewma" else nn.LSTM(DIM, DIM, rng=rng)

    def states(self, chosen):
        """The user's state after each item, from the items' embeddings."""
        if isinstance(self.layer, nn.EWMA):  # the average begins with the first item
            states = [chosen[0]]
            for item in chosen[1:]:
                states += self.layer.step((states[-1],), item)
            return states
        return self.layer.forward(chosen)

    def fit(self, sequences, loss: str = "hinge", num_epochs: int = 10, **options) -> wyrm.History:
        """Train; options are those of :func:`wyrm.fit`."""

        def total(items):
            chosen = [self.items.index(item) for item in items]
            steps = self.states(chosen[:-1]), chosen[1:], [self.biases.index(item) for item in items[1:]]
            if loss != "warp":  # all steps side by side, as rows; WARP draws for each by itself
                steps = [[wyrm.stack(nodes)] for nodes in steps]
            losses = []
            for state, following, bias in zip(*steps, strict=True):
                drawn = wyrm.SampledIndexNode(self.items.shape[0], count=state.shape[0])
                positive = state.vector_dot(following) + bias
                negative = state.vector_dot(self.items.index(drawn)) + self.biases.index(drawn)
                losses.append(LOSSES[loss](positive, negative, drawn))
            return wyrm.stack(losses).scalar_sum()

        parameters = [self.items, self.biases, *self.layer.parameters()]
        optimizer = wyrm.optim.Adagrad(0.16, parameters, l2=4e-4)
        feed = {"items": wyrm.Ragged.of([piece for s in sequences for piece in pieces(s, self.length)])}
        return wyrm.fit(total, feed, optimizer, num_epochs=num_epochs, seed=self.seed, **options)

    def scores(self, sequences):
        """The score of each item for each of several sequences; minus infinity for what a sequence holds."""
        feed = {"items": wyrm.Ragged.of([s[-self.length :] for s in sequences])}
        states = wyrm.evaluate(lambda items: self.states([self.items.index(item) for item in items])[-1], feed)[:, 0]
        scores = states @ self.items.value.T + self.biases.value.T
        for row, sequence in zip(scores, sequences, strict=True):
            row[sequence] = -np.inf
        return scores

    def recommend(self, sequence, k: int = 10):
        """The k items of the highest scores, among those that are not in the sequence."""
        return self.scores([sequence])[0].argsort()[::-1][:k]

    def mrr(self, sequences) -> float:
        """The mean reciprocal rank of each sequence's last item, by the items before it."""
        scores = self.scores([s[:-1] for s in sequences])
        last = scores[np.arange(len(scores)), [s[-1] for s in sequences]]
        return float((1 / (scores >= last[:, None]).sum(axis=1)).mean())


def pieces(sequence, length: int):
    """A sequence, cut from its end into pieces of ``length`` items; those of fewer than three are left out."""
    first = len(sequence) % length
    starts = [*([0] if first else []), *range(first, len(sequence), length)]
    return [p for start, end in zip(starts, [*starts[1:], None], strict=True) if len(p := sequence[start:end]) > 2]


def main() -> None:
    """Train by the options given, and say how well the test users' last items are ranked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=["lstm", "ewma"], default="lstm")
    parser.add_argument("--loss", choices=list(LOSSES), default="warp")
    parser.add_argument("--data", metavar="CSV", help="a fifth of its users are held out for testing")
    parser.add_argument("--train", metavar="CSV", help="with --test, in place of --data")
    parser.add_argument("--test", metavar="CSV")
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="more than one train without locks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend")
    options = parser.parse_args()
    if bool(options.train) != bool(options.test):
        parser.error("--train and --test belong together")

    best = None
    if options.train:
        (train, test), item_ids = data.read([options.train, options.test])
    else:
        if options.data:
            (sequences,), item_ids = data.read([options.data])
        else:
            sequences, best = data.generated(1000, seed=options.seed)
            item_ids = [str(n) for n in range(100)]
        train, test = data.split(sequences, 0.2, options.seed)
    test = [s for s in test if len(s) > 1]

    if options.backend:
        wyrm.use_backend(options.backend)
    model = Recommender(len(item_ids), options.model, options.length, options.seed)
    threads = {"num_threads": options.threads, "schedule": "hogwild"} if options.threads > 1 else {"num_threads": 1}
    history = model.fit(train, options.loss, options.epochs, **threads)
    seconds = sum(epoch.seconds for epoch in history.epochs)
    print(f"{history.backend}: {seconds:.2f} s of training, {history.startup_seconds:.2f} s to trace and compile before")
    print(f"mean reciprocal rank: {model.mrr(test):.4f}" + (f" of {best:.4f} at best" if best else ""))
    print("for the first test user:", *(item_ids[n] for n in model.recommend(test[0])))


if __name__ == "__main__":
    main()
