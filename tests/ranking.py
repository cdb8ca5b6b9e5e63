"""What tests of draws have in common: a model whose negatives are drawn again, and ways to look into programs."""

import numpy as np

import wyrm
from wyrm import nn
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace


def numbers(rows, dtype="float32"):
    """A table in which each row holds its number."""
    return wyrm.ParameterNode(np.arange(rows).reshape(rows, 1), dtype=dtype)


def drawn(sample):
    """What one pass draws."""
    sample.forward()
    return sample.value[:, 0]


def program_of(node):
    return lower(trace([node._structure])[0], "interactive", frozenset())


def draws_in(node):
    return [i for i in program_of(node).forward if i.kernel == "draw"]


def ranking(rows=40, width=8, seed=2, tries=10, dtype="float64", bag=False, **options):
    """WARP over a factorization, users by a bag or an index; what is needed to look into it."""
    rng = np.random.default_rng(5)
    users = wyrm.ParameterNode(rng.standard_normal((6, width)), dtype=dtype)
    items = wyrm.ParameterNode(rng.standard_normal((rows, width)), dtype=dtype)
    user, item = wyrm.BagInputNode(1, [3]) if bag else wyrm.IndexInputNode(1, 3), wyrm.IndexInputNode(1, 7)
    sample = wyrm.SampledIndexNode(rows, seed=seed)
    row = users.index_sum(user) if bag else users.index(user)
    positive, negative = row.vector_dot(items.index(item)), row.vector_dot(items.index(sample))
    loss = nn.losses.warp(positive, negative, sample, tries=tries, **options)
    return loss, users, items, user, item, sample


def by_steps(loss, feed, optimizer):
    """What ``fit`` does with each example, in order, driven from Python."""
    for values in zip(*feed.values(), strict=True):
        for node, value in zip(feed, values, strict=True):
            node.set_value(value)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
