"""Rules on threads: what each schedule promises, for every rule, for odd numbers of runs, and for numbers that are tiny."""

from __future__ import annotations

from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Array, Context, check
from wyrm_conformance.schedules import _fit
from wyrm_conformance.updates import RULES

#: An odd number of examples, which no number of threads or of examples in a batch divides.
EXAMPLES = 101


class _Model:
    """A row of a table, a row that is drawn, and numbers that a rule with branches treats in different ways."""

    def __init__(self, seed: int, name: str, dtype: str, rows: int, drawn: bool) -> None:
        rng = np.random.default_rng(seed)
        self.table = wyrm.ParameterNode(rng.uniform(-1, 1, (rows, 5)), dtype=dtype)
        self.parameters = [self.table]
        self.index, self.x = wyrm.IndexInputNode(), wyrm.InputNode((1, 5), dtype=dtype)
        row = self.table.index(self.index)
        if drawn:
            self.parameters.append(wyrm.ParameterNode(rng.uniform(-1, 1, (9, 5)), dtype=dtype))
            row = row + self.parameters[1].index(wyrm.SampledIndexNode(9, seed=3))
        self.loss = (row * self.x).scalar_sum()
        self.optimizer = RULES[name](self.parameters)

    def fit(self, context: Context, data: tuple[Array, Array], **options: Any) -> list[Array]:
        """The mean losses, the values and the states after two epochs."""
        history = _fit(self.loss, {self.index: data[0], self.x: data[1]}, self.optimizer, context, num_epochs=2, **options)
        states = {n: state for n, state in self.optimizer.state_dict().items() if "." in n and ".missed." not in n}
        return [np.array(history.losses), *(node.value.copy() for node in self.parameters), *states.values()]


@check(
    "parallel/teams and rules",
    "parallel",
    "any number of threads makes the same steps, to the bit, by every rule, and misses no run of an odd number",
    requires=("synchronized",),
    at_least=500,
)
def check_teams(context: Context) -> None:
    """One thread against two and three, and against batches that no team makes."""
    for number, name in enumerate(RULES):
        dtype = context.dtypes[number % len(context.dtypes)]
        seed = int(context.rng.integers(2**31))
        data = context.rng.integers(0, 13, EXAMPLES), context.rng.uniform(-2, 2, (EXAMPLES, 1, 5))
        options: dict[str, Any] = {"schedule": "synchronized", "batch_size": 7, "seed": seed}
        made = [_Model(seed, name, dtype, 13, True).fit(context, data, num_threads=threads, **options) for threads in (1, 2, 3)]
        for threads, found in zip((2, 3), made[1:], strict=True):
            for one, other in zip(made[0], found, strict=True):
                context.identical(f"{name} in {dtype} on {threads} threads", other, one)
        single = _Model(seed, name, dtype, 13, True).fit(
            context, data, num_threads=1, batch_size=7, seed=seed, schedule="hogwild"
        )
        for one, other in zip(made[0], single, strict=True):
            context.compare(f"{name} in {dtype} by a team and by one thread", one, other, 1e-10 if dtype == "float64" else 1e-4)


@check(
    "parallel/hogwild and rules",
    "parallel",
    "threads that share no row make the same steps as one, to the bit, by every rule, and miss no run of an odd number",
    requires=("hogwild",),
    at_least=500,
)
def check_hogwild(context: Context) -> None:
    """Each row is one example's; so not by momentum, by which all rows move at each step."""
    for number, name in enumerate(name for name in RULES if not name.startswith("momentum")):
        dtype = context.dtypes[number % len(context.dtypes)]
        seed = int(context.rng.integers(2**31))
        data = np.arange(EXAMPLES), context.rng.uniform(-2, 2, (EXAMPLES, 1, 5))
        options: dict[str, Any] = {"schedule": "hogwild", "seed": seed}
        ends = [
            _Model(seed, name, dtype, EXAMPLES, False).fit(context, data, num_threads=threads, **options)
            for threads in (1, 2, 3)
        ]
        for threads, found in zip((2, 3), ends[1:], strict=True):
            what = f"{name} in {dtype} on {threads} threads"
            context.compare(f"the losses of {what}", found[0], ends[0][0], 1e-9 if dtype == "float64" else 1e-5)
            for one, other in zip(ends[0][1:], found[1:], strict=True):
                context.identical(what, other, one)


@check("parallel/denormals", "parallel", "threads keep numbers below the normal range as they are", requires=("hogwild",))
def check_denormals(context: Context) -> None:
    """Values and gradients that are multiples of the smallest number there is, on each schedule: sums are exact."""
    schedules = ["hogwild", *(["synchronized"] if "synchronized" in context.backend.capabilities.schedules else [])]
    for dtype in context.dtypes:
        smallest = np.finfo(dtype).smallest_subnormal
        index = context.rng.permutation(np.repeat(np.arange(12), 4)) if len(schedules) > 1 else np.arange(12)
        for schedule in schedules:
            given = np.arange(12) if schedule == "hogwild" else index
            start, x = context.rng.integers(-50, 50, (12, 9)), context.rng.integers(-9, 9, (len(given), 1, 9)) * 4
            for threads in (1, 2, 3):
                table = wyrm.ParameterNode(start * smallest, dtype=dtype)
                key, factor = wyrm.IndexInputNode(), wyrm.InputNode((1, 9), dtype=dtype)
                loss, feed = (table.index(key) * factor).scalar_sum(), {key: given, factor: (x * smallest).astype(dtype)}
                size = 4 if schedule == "synchronized" else 1
                _fit(loss, feed, SGD(1.0, [table]), context, num_threads=threads, schedule=schedule, batch_size=size, seed=1)
                exact = start.astype(float)
                np.add.at(exact, given, -x[:, 0] / size)
                what = f"multiples of the smallest number in {dtype}, {schedule} on {threads} threads"
                context.compare(what, table.value.astype(np.longdouble) / np.longdouble(smallest), exact, 0)


@check(
    "parallel/batches made again",
    "parallel",
    "a batch that found too little room leaves nothing behind in losses or gradients when it is made again, of any structure",
    requires=("synchronized",),
)
def check_batches_made_again(context: Context) -> None:
    """Two structures in turns; their bags grow beyond the room that there was, so that batches fail in either."""
    for dtype in context.dtypes:
        count, sizes = 62, (3, 20, 90)
        lengths = np.arange(count) % 2 + 1
        words = [context.rng.integers(0, 9, n) for n in lengths]
        bags = [context.rng.integers(0, 9, sizes[e * 3 // count] + e % 2) for e in range(count)]
        x, start = context.rng.uniform(-1, 1, (count, 3)), context.rng.uniform(-1, 1, (9, 3))
        for threads in (1, 2, 3):
            table = wyrm.ParameterNode(start, dtype=dtype)

            def loss(words: Any, bag: Any, x: Any, table: wyrm.ParameterNode = table) -> Any:
                return (sum((table.index(word) for word in words), table.index_mean(bag)) * x).sum(1)

            feed = {"words": wyrm.Ragged.of(words), "bag": wyrm.Bags.from_lists(bags), "x": x}
            options: dict[str, Any] = {"schedule": "synchronized", "batch_size": 6, "shuffle": False, "num_threads": threads}
            history = _fit(loss, feed, SGD(0.1, [table]), context, **options)  # type: ignore[arg-type]
            exact, losses = start.copy(), list[float]()
            for begin in range(0, count, 6):
                part, gradient = range(begin, min(begin + 6, count)), np.zeros_like(exact)
                for e in part:
                    losses.append(float((exact[words[e]].sum(0) + exact[bags[e]].mean(0)) @ x[e]))
                    np.add.at(gradient, words[e], x[e] / len(part))
                    np.add.at(gradient, bags[e], x[e] / len(bags[e]) / len(part))
                exact -= 0.1 * gradient
            tolerance = 1e-10 if dtype == "float64" else 1e-5
            what = f"on {threads} threads in {dtype}"
            context.compare(f"the mean loss {what}", np.array(history.losses), np.array([np.mean(losses)]), tolerance)
            context.compare(f"the table {what}", table.value, exact, tolerance)
