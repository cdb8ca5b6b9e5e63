"""W1 to W4 and W8 by PyTorch, eagerly, on one thread; tables by ``nn.Embedding(sparse=True)``."""

from __future__ import annotations

import sys
from abc import abstractmethod

import torch
from torch import nn
from torch.nn import functional

from benchmarks import data
from benchmarks.peers.protocol import Model, serve

torch.set_num_threads(1)


class _Eager(Model):
    """Steps of stochastic gradient descent; subclasses say what the loss of an example is."""

    rate = 0.05

    def __init__(self) -> None:
        self.parameters: list[torch.Tensor] = []
        self.prepare()
        self.optimizer = torch.optim.SGD(self.parameters, self.rate)

    def prepare(self) -> None:
        """Make data and parameters."""

    @abstractmethod
    def loss(self, n: int) -> torch.Tensor:
        """Of an example."""

    def parameter(self, values: object) -> torch.Tensor:
        made = nn.Parameter(torch.tensor(values))
        self.parameters.append(made)
        return made

    def run(self, start: int, stop: int) -> float:
        total = 0.0
        for n in range(start, stop):
            self.optimizer.zero_grad()
            loss = self.loss(n)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


class Regression(_Eager):
    """W1."""

    rate = 0.1

    def prepare(self) -> None:
        first = data.first()
        self.x, self.y = torch.tensor(first.x), torch.tensor(first.y)
        self.slope, self.intercept = self.parameter(0.0), self.parameter(0.0)

    def loss(self, n: int) -> torch.Tensor:
        return (self.slope * self.x[n] + self.intercept - self.y[n]).square()


class Factorization(_Eager):
    """W2."""

    rate = 0.01

    def prepare(self) -> None:
        values = data.first().factorization
        self.users, self.items = torch.tensor(values.users).long(), torch.tensor(values.items).long()
        self.ratings = torch.tensor(values.ratings)
        self.user_table, self.item_table = self.parameter(values.user_table), self.parameter(values.item_table)

    def loss(self, n: int) -> torch.Tensor:
        user = functional.embedding(self.users[n : n + 1], self.user_table, sparse=True)
        item = functional.embedding(self.items[n : n + 1], self.item_table, sparse=True)
        return ((user * item).sum() - self.ratings[n]).square()


class Sequences(_Eager):
    """W4: one sequence a step, by ``nn.LSTM``."""

    #: Into the order of PyTorch's gates: input, forget, candidate, output.
    gates = (1, 0, 3, 2)

    def prepare(self) -> None:
        first = data.first()
        values, width = first.lstm, data.HIDDEN
        self.sequences, self.lengths = torch.tensor(first.sequences).long(), first.lengths.tolist()
        self.embedding = self.parameter(values.embedding)
        self.lstm = nn.LSTM(data.EMBEDDED, width)
        weights = torch.tensor(values.weights).reshape(-1, 4, width)[:, self.gates].reshape(-1, 4 * width).T
        with torch.no_grad():
            self.lstm.weight_hh_l0.copy_(weights[:, :width])
            self.lstm.weight_ih_l0.copy_(weights[:, width:])
            self.lstm.bias_ih_l0.copy_(torch.tensor(values.biases).reshape(4, width)[list(self.gates)].reshape(-1))
            self.lstm.bias_hh_l0.zero_()
        self.lstm.bias_hh_l0.requires_grad_(False)  # one bias, as everybody else has
        self.parameters += [p for p in self.lstm.parameters() if p.requires_grad]
        self.output_weights, self.output_biases = self.parameter(values.output_weights), self.parameter(values.output_biases)

    def length(self, n: int) -> int:
        """The tokens of a sequence that are read."""
        return int(self.lengths[n])

    def loss(self, n: int) -> torch.Tensor:
        length = self.length(n)
        embedded = functional.embedding(self.sequences[n, :length], self.embedding)
        hidden, _ = self.lstm(embedded[:, None])
        logits = hidden[-1] @ self.output_weights + self.output_biases
        return functional.cross_entropy(logits, self.sequences[n, length : length + 1])


class Fours(Sequences):
    """W3."""

    def length(self, n: int) -> int:
        return 4


class Perceptron(_Eager):
    """W8."""

    def prepare(self) -> None:
        values = data.batches()
        self.x, self.y = torch.tensor(values.x), torch.tensor(values.y)
        self.hidden_weights, self.hidden_biases = self.parameter(values.hidden_weights), self.parameter(values.hidden_biases)
        self.output_weights, self.output_biases = self.parameter(values.output_weights), self.parameter(values.output_biases)

    def loss(self, n: int) -> torch.Tensor:
        hidden = torch.relu(self.x[n] @ self.hidden_weights + self.hidden_biases)
        return functional.mse_loss(hidden @ self.output_weights + self.output_biases, self.y[n])


if __name__ == "__main__":
    models = {"w1": Regression, "w2": Factorization, "w3": Fours, "w4": Sequences, "w8": Perceptron}
    serve(models[sys.argv[1]])
