"""Steps that change nothing, which runs may end early: which those are, and that they do what steps do."""

import numpy as np
import pytest
from ranking import by_steps, ranking

import wyrm
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.lowering.updates import Training
from wyrm.frontend.op import PARAMETER
from wyrm.optim import SGD

pytestmark = pytest.mark.variants


def skip_of(loss, optimizer):
    """What a training program names as the value without which being positive it changes nothing."""
    traced, _, _ = trace([loss._structure])
    training = tuple(Training(optimizer.groups[0].rule, 0) for _ in traced.leaves(PARAMETER))
    return lower(traced, "train", frozenset(), training).skip


OPTIMIZERS = {
    "sgd": (lambda p: SGD(0.1, p), True),
    "adagrad": (lambda p: wyrm.optim.Adagrad(0.1, p, initial_accumulator_value=0.5), True),
    "row-wise": (lambda p: wyrm.optim.RowwiseAdagrad(0.1, p), True),
    "clipped": (lambda p: SGD(0.1, p, clip_norm=1.0), True),
    "adam": (lambda p: wyrm.optim.Adam(0.1, p), False),
    "momentum": (lambda p: SGD(0.1, p, momentum=0.9), False),
    "l2": (lambda p: SGD(0.1, p, l2=0.1), False),
    "decay": (lambda p: wyrm.optim.Adagrad(0.1, p, weight_decay=0.1), False),
    "l1": (lambda p: wyrm.optim.Adagrad(0.1, p, l1=0.1), False),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("bag", [False, True])
def test_steps_that_change_nothing_may_be_skipped(backend, name, bag):
    """Runs do what steps do, whether they may end early or not; a loss with a part of another kind may not."""
    make, may = OPTIMIZERS[name]
    rng = np.random.default_rng(1)
    chosen, rated, results = rng.integers(0, 6, 60), rng.integers(0, 40, 60), []
    for run in (True, False):
        loss, users, items, user, item, _ = ranking(tries=2, margin=0.1, bag=bag)
        optimizer = make(loss.parameters())
        feed = {user: chosen[:, None].tolist() if bag else chosen, item: rated}
        if run:
            assert (skip_of(loss, optimizer) is not None) == may
            assert skip_of(loss + users.index(wyrm.IndexInputNode(1, 2)).sum(), optimizer) is None
            assert skip_of(loss.square() + items.index(item).sum() * loss, optimizer) is None
            wyrm.fit(loss, feed, optimizer, shuffle=False, num_threads=1)
        else:
            by_steps(loss, feed, optimizer)
        results.append((users.value.copy(), items.value.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
