"""Matrix factorization with user and item biases (Koren, Bell and Volinsky, Computer 42(8), 2009, equation 5).

A rating is predicted as ``offset + user bias + item bias + user traits . item traits``. An example touches one row of each
table; so do its gradient and its update.
"""

from __future__ import annotations

import numpy as np

import wyrm
from demo.ratings import Ratings
from wyrm.optim import SGD

#: Published settings for data of this kind, not chosen on the ratings that are held out.
DIMENSION, LEARNING_RATE, L2, NUM_EPOCHS = 32, 0.01, 0.1, 50


class Factorization:
    """The model, as a graph for one rating.

    Attributes
    ----------
    score
        The predicted rating.
    loss
        Half the squared error.
    """

    def __init__(self, ratings: Ratings, seed: int) -> None:
        rng = np.random.default_rng(seed)
        users, items = ratings.num_users, ratings.num_items
        user_traits = wyrm.ParameterNode(rng.normal(0, 0.1, (users, DIMENSION)), name="user traits")
        item_traits = wyrm.ParameterNode(rng.normal(0, 0.1, (items, DIMENSION)), name="item traits")
        user_bias = wyrm.ParameterNode(np.zeros((users, 1)), name="user bias")
        item_bias = wyrm.ParameterNode(np.zeros((items, 1)), name="item bias")

        self.user, self.item = wyrm.IndexInputNode(name="user"), wyrm.IndexInputNode(name="item")
        self.rating = wyrm.InputNode((1, 1), name="rating")
        interaction = user_traits.index(self.user).vector_dot(item_traits.index(self.item))
        self.score = interaction + user_bias.index(self.user) + item_bias.index(self.item) + float(ratings.values.mean())
        self.loss = (self.score - self.rating).square() * 0.5
        self.optimizer = SGD(LEARNING_RATE, self.loss.parameters(), l2=L2)

    def feed(self, ratings: Ratings) -> dict[wyrm.Node, np.ndarray]:
        """The ratings, for the inputs of the score and of the loss."""
        return {self.user: ratings.users, self.item: ratings.items, self.rating: ratings.values}

    def predict(self, ratings: Ratings, backend: str) -> np.ndarray:
        """The score for each rating's user and item."""
        feed = {self.user: ratings.users, self.item: ratings.items}
        return wyrm.evaluate(self.score, feed, backend=backend)[:, 0, 0]
