"""Small models and optimizers of all kinds, which random sequences of operations are played on."""

import numpy as np

import wyrm
from wyrm.optim import FTRL, SGD, Adagrad, Adam, schedules

OPTIMIZERS = {
    "SGD": lambda p: SGD(0.05, p),
    "decay": lambda p: SGD(0.05, p, weight_decay=0.1),
    "momentum": lambda p: SGD(schedules.cosine(0.05, 30), p, momentum=0.8, weight_decay=0.05),
    "scheduled": lambda p: SGD(schedules.cosine(0.05, 20), p, l2=0.01),
    "Adagrad": lambda p: Adagrad(0.1, p),
    "FTRL": lambda p: FTRL(0.1, p, l1=0.01),
    "Adam": lambda p: Adam(schedules.cosine(0.05, 30), p),
    "clipped": lambda p: SGD(0.05, p, clip_norm=0.5, momentum=0.5),
    "several": lambda p: [SGD(schedules.cosine(0.05, 40), p[:1], momentum=0.5), Adagrad(0.1, p[1:])],
}


class Model:
    """Parameters, functions over nodes, and the nodes that they make; ``kinds`` says what the inputs are."""

    kinds = {}
    rows = 1

    def __init__(self, dtype):
        rng = np.random.default_rng(5)
        wyrm.InputNode((1, 1), 1.0).square().forward()  # closes its graph
        self.dtype = dtype
        self.scale = wyrm.InputNode((1, 1), 1.0, constant=True, dtype=dtype)
        self.parameters = [
            wyrm.ParameterNode(rng.standard_normal(shape) * 0.5, dtype=dtype, name=f"p{n}")
            for n, shape in enumerate(self.shapes)
        ]
        self.inputs = {name: self._input(kind) for name, kind in self.kinds.items()}
        values = {name: node for name, node in self.inputs.items() if name != "y"}
        self.node = self.score(**values)
        self.root = self.loss(**self.inputs)
        wyrm.InputNode((1, 1), 1.0).square().forward()  # closes its graph

    def _input(self, kind):
        if kind[0] == "index":
            return wyrm.IndexInputNode(kind[2])
        if kind[0] == "bag":
            return wyrm.BagInputNode(1)
        return wyrm.InputNode((1, kind[1]), dtype=self.dtype)

    def loss(self, y, **values):
        return (self.score(**values) - y).square().sum(axis=1)


class Factorization(Model):
    shapes = [(6, 3), (5, 3), (6, 1), (5, 1), (1, 1)]
    kinds = {"u": ("index", 6, 1), "i": ("index", 5, 1), "y": ("real", 1)}

    def score(self, u, i):
        users, items, a, b, mean = self.parameters
        return users.index(u).vector_dot(items.index(i)) * self.scale + a.index(u) + b.index(i) + mean


class BagsModel(Model):
    shapes = [(7, 2), (2, 2), (1, 2)]
    kinds = {"words": ("bag", 7, 1), "y": ("real", 2)}

    def score(self, words):
        table, weights, bias = self.parameters
        return table.index_mean(words).dot(weights) * self.scale + bias


class Perceptron(Model):
    shapes = [(3, 4), (1, 4), (4, 1)]
    kinds = {"x": ("real", 3), "y": ("real", 1)}

    def score(self, x):
        first, bias, second = self.parameters
        return (x.dot(first) * self.scale + bias).tanh().dropout(0.25, seed=3).dot(second)


class Several(Model):
    """Several indices a step, an input of one number, a sampled row."""

    shapes = [(8, 2), (1, 2)]
    kinds = {"k": ("index", 8, 3), "x": ("real", 1), "y": ("real", 2)}

    def score(self, k, x):
        table, bias = self.parameters
        return (table.index(k).t().sum(axis=1).t() * 0.3) * x * self.scale + bias


MODELS = {"factorization": Factorization, "bags": BagsModel, "perceptron": Perceptron, "several": Several}
