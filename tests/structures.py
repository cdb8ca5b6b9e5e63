"""A model of two structures whose parameters have every kind of gradient, as parts: for tests of runners and crews."""

import numpy as np

import wyrm
from wyrm.backend import JoinedRunner, Team
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training, lower_update
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.memory import Source, aligned
from wyrm.training.crews import Work
from wyrm.training.models import seen_from
from wyrm.training.reading import column_for
from wyrm.training.runners import Part


class Plain:
    """A backend whose runners are joined, and whose threads work, as the contract means it: in Python."""

    def __init__(self, backend):
        self.backend = backend
        self.join, self.team = JoinedRunner, Team


class TwoStructures:
    """Row-sparse (table), dense (weight), mixed (tied: looked up and used whole) and bag (pooled) gradients."""

    def __init__(self, seed=0, examples=57, optimizer=None, dtype="float32", rate=None):
        rng = np.random.default_rng(seed)
        self.dtype = dtype
        shapes = {"table": (20, 5), "weight": (5, 3), "tied": (6, 3), "pooled": (15, 5)}
        self.nodes = [wyrm.ParameterNode(rng.normal(size=s) / 2, dtype=dtype, name=name) for name, s in shapes.items()]
        self.optimizer = (optimizer or wyrm.optim.Adagrad)(0.1, self.nodes)
        self.rate, self.examples = rate, examples
        table, weight, tied, pooled = self.nodes
        x = [wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)]
        bag = wyrm.BagInputNode(1)
        hidden = (table.index(x[0]) + pooled.index_sum(bag)).tanh().dot(weight) * tied.index(x[2])
        first = (tied.dot(hidden.t()).sum() - x[3]).square()
        y = [wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)]
        second = (table.index(y[0]) * table.index(y[1])).dot(weight).sigmoid().sum() * y[2]
        lengths = rng.integers(0, 5, examples)
        bags = wyrm.Bags(rng.integers(0, 15, lengths.sum()), np.concatenate([[0], lengths.cumsum()]))
        i, j, k = (rng.integers(0, n, examples) for n in (20, 20, 6))
        t = rng.normal(size=examples)
        self.losses = [first, second]
        self.feeds = [{x[0]: i, x[2]: k, x[3]: t, bag: bags}, {y[0]: i, y[1]: j, y[2]: t}]
        self.choice = rng.integers(0, 2, examples)
        self.order = rng.permutation(examples).astype(np.int64).reshape(-1, 1)

    @property
    def values(self):
        return [node.value.copy() for node in self.nodes]

    def shared(self, buffer, nodes):
        group = self.optimizer.groups[0]
        if buffer.kind == "scalars":
            return group.scalars
        node = nodes[buffer.number]
        node.storage.follow(group.rule, group.scalars)
        return node.storage.buffer(buffer)

    def schedule(self, program, each):
        """Sources of the scalars of each step: a learning rate that falls."""
        for expected in program.inputs:
            if expected.kind == "schedule":
                rows = aligned((self.examples, self.optimizer.groups[0].scalars.shape[1]), self.dtype)
                rows[...] = self.optimizer.groups[0].scalars
                rows[:, 0] = self.rate(np.arange(self.examples) // each)
                yield Source(rows, by_position=True)

    def parts(self, backend, purpose, batch_size=1):
        how = Training(self.optimizer.groups[0].rule, 0, 0, self.rate is not None)
        result = []
        for loss, feed in zip(self.losses, self.feeds, strict=True):
            traced, structures, _ = trace([loss._structure])
            own = [structures[n].live_parameter() for n in traced.leaves(PARAMETER)]
            program = lower(traced, purpose, backend.capabilities.kernels, (how,) * len(own))
            columns = {seen_from(loss, node): column_for(node, values) for node, values in feed.items()}
            sources = [columns[structures[n]].source(0) for n in traced.leaves(*INPUTS)]
            sources += self.schedule(program, batch_size)
            shared = {b: self.shared(b, own) for b in program.buffers[2:] if keeps(b)}
            known = {node: number for number, node in enumerate(self.nodes)}
            numbers = [known[node] for node in own]
            result.append(Part(compiled(program, backend), sources, shared=shared, parameters=numbers))
        return result

    def update(self, backend):
        how = Training(self.optimizer.groups[0].rule, 0, 0, self.rate is not None)

        def part(shards):
            shapes = [node.shape for node in self.nodes]
            program = lower_update(shapes, [how] * len(shapes), self.dtype, backend.capabilities.kernels, shards)
            shared = {b: self.shared(b, self.nodes) for b in program.buffers[2:] if keeps(b)}
            return Part(compiled(program, backend), list(self.schedule(program, 1)), shared=shared)

        return part

    def work(self, backend, batch_size, joined_by=None):
        return Work(joined_by or backend, self.parts(backend, "accumulate", batch_size), self.update(backend), batch_size)

    def loss_of(self, example):
        """Set the inputs of the structure that an example goes through; returns its loss node."""
        number = self.choice[example]
        for node, values in self.feeds[number].items():
            if isinstance(node, wyrm.BagInputNode):
                node.set_value(values.take([example]))
            else:
                node.set_value(values[example])
        return self.losses[number]


def keeps(buffer):
    return buffer.kind in ("value", "state", "clock", "scalars")
