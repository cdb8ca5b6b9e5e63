"""The models of the tests of checkpoints: each of them trained by one optimizer of every kind."""

import numpy as np

import wyrm
from wyrm import nn
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW, Group, RowwiseAdagrad, schedules

OPTIMIZERS = {
    "sgd": lambda p: SGD(0.02, p, l2=0.01),
    "momentum": lambda p: SGD(0.01, p, momentum=0.9),
    "momentum and decay by schedule": lambda p: SGD(schedules.cosine(0.01, 300), p, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: Adagrad(0.1, p, l1=0.001, clip_norm=1.0),
    "row-wise adagrad": lambda p: RowwiseAdagrad(0.1, p, clip_value=0.5),
    "adam": lambda p: Adam(0.01, p),
    "adamw": lambda p: AdamW(schedules.warmup(schedules.constant(0.01), 50), p),
    "ftrl": lambda p: FTRL(0.5, p, l1=0.001, l2=0.01),
    "groups": lambda p: Adam(0.01, [Group(p[:1], weight_decay=0.1), Group(p[1:], learning_rate=0.1)]),
}


class Model:
    """Factorization with a dense layer and dropout; each epoch touches some of the rows."""

    def __init__(self, optimizer, dtype="float32", rows=40):
        wyrm.InputNode((1, 1), 0.0).square().forward()  # each model is a graph of its own, so their random keys are the same
        rng = np.random.default_rng(3)
        self.users = wyrm.ParameterNode(rng.normal(size=(rows, 5)), name="users", dtype=dtype)
        self.items = wyrm.ParameterNode(rng.normal(size=(30, 5)), name="items", dtype=dtype)
        self.layer = nn.Linear(5, 1, rng=1, dtype=dtype)
        self.user, self.item = wyrm.IndexInputNode(name="user"), wyrm.IndexInputNode(name="item")
        self.y = wyrm.InputNode((1, 1), dtype=dtype)
        hidden = (self.users.index(self.user) * self.items.index(self.item)).dropout(0.2)
        self.loss = (self.layer.forward(hidden) - self.y).square()
        self.optimizer = OPTIMIZERS[optimizer]([self.users, self.items, *self.layer.parameters()])
        users, items = rng.integers(0, rows // 2, 60), rng.integers(0, 30, 60)
        self.feed = {self.user: users, self.item: items, self.y: rng.normal(size=60)}

    def fit(self, num_epochs, **options):
        return wyrm.fit(self.loss, self.feed, self.optimizer, num_epochs=num_epochs, **options)

    def values(self):
        state = self.optimizer.state_dict()
        return [p.value.copy() for p in self.loss.parameters()] + [state[key] for key in sorted(state)]


def assert_same(a, b):
    for x, y in zip(a.values(), b.values(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert [g.options for g in a.optimizer.groups] == [g.options for g in b.optimizer.groups]
