"""What users do to train and evaluate, and to their graphs, in random sequences of operations."""

import copy
import gc
import os
import pickle

import numpy as np
from small_models import Several

import wyrm
from wyrm.optim import SGD

WEIGHTS = {
    "set_input": 6,
    "set_all": 6,
    "set_wrong": 1,
    "read_input": 1,
    "set_scale": 1,
    "forward": 8,
    "backward": 8,
    "whole_step": 6,
    "steps": 4,
    "value": 6,
    "gradients": 3,
    "zero": 2,
    "set_gradient": 2,
    "step": 6,
    "in_evaluating": 1,
    "other_backend": 1,
    "back": 1,
    "read_parameters": 2,
    "set_parameter": 2,
    "put_back": 1,
    "trainable": 1,
    "all_trainable": 2,
    "frozen": 1,
    "max_norm": 1,
    "rate": 1,
    "keep_state": 2,
    "load_state": 2,
    "save_file": 0.3,
    "load_file": 0.3,
    "new_optimizer": 0.5,
    "old_optimizer": 1,
    "other_optimizer": 1,
    "fit": 6,
    "fit_several": 4,
    "fit_wrong": 1,
    "fit_raising": 1,
    "fit_calling": 1.5,
    "fit_stream": 0.5,
    "fit_saving": 0.5,
    "fit_resuming": 0.5,
    "evaluate": 5,
    "take_over": 1,
    "use_other": 2,
    "fresh_graph": 2,
    "forget_others": 0.5,
    "sharing": 0.5,
    "copied": 0.5,
}


class Planned(Exception):
    """What callbacks raise."""


def number(rng, large=False):
    value = float(rng.standard_normal())
    kind = rng.integers(6)
    if large and rng.random() < 0.03:
        return [float("nan"), float("inf"), 1e30][rng.integers(3)]
    return [value, int(value * 3), np.float32(value), np.float64(value), np.array([[value]]), [[value]]][kind]


class Training:
    """The operations; whoever has a model, optimizers and data inherits them."""

    # -- training and evaluating

    def _fit(self, rng, wrong=False, callbacks=(), nodes=None, data=None, **more):
        nodes = bool(rng.random() < 0.5) if nodes is None else nodes
        count = int([1, 1, 1, 2, 4, 6][rng.integers(6)])
        options = {"seed": int(rng.integers(3))}
        if rng.random() < 0.2:
            options["batch_size"] = int(rng.integers(1, 4))
        if rng.random() < 0.2:
            options["reduction"] = "sum"
        if rng.random() < 0.2:
            options["weights"] = rng.standard_normal(count).round(2)
        if rng.random() < 0.2:
            options["num_epochs"] = int(rng.integers(0, 4))
        if rng.random() < 0.15:
            options["check"] = "loss"
        if rng.random() < 0.15:
            options["shuffle"] = False
        if rng.random() < 0.1:
            options["schedule"] = ["sequential", "synchronized"][rng.integers(2)]
        if rng.random() < 0.1:
            options["validation"] = self._feed(rng, 2, nodes=nodes)
        if not nodes and rng.random() < 0.4 and not isinstance(self.model, Several):
            options["rows"] = int(rng.integers(1, 4))
        feed = self._feed(data or rng, count, wrong=wrong, nodes=nodes)
        if callbacks:
            options["callbacks"] = callbacks
        options.update(more)
        loss = self.model.root if nodes else self.model.loss
        try:
            history = wyrm.fit(loss, feed, self.made, backend=self.backend, **options)
        except (wyrm.WyrmError, Planned) as error:
            losses = np.array(getattr(error, "history", wyrm.History("", 1, 0.0)).losses, float)
            return [losses, type(error).__name__, str(error).replace(self.folder, "")]
        validation = [epoch.metrics.get("validation_loss", 0.0) for epoch in history]
        return [np.array(history.losses), np.array(validation), history.schedule]

    def fit(self, rng):
        return self._fit(rng)

    def fit_several(self, rng):
        how, nodes = int(rng.integers(1 << 30)), bool(rng.random() < 0.5)
        return [each for _ in range(3) for each in self._fit(np.random.default_rng(how), nodes=nodes, data=rng)]

    def fit_wrong(self, rng):
        return self._fit(rng, wrong=True)

    def fit_raising(self, rng):
        def raising(epoch):
            raise Planned("planned")

        return self._fit(rng, callbacks=[raising])

    def fit_calling(self, rng):
        """Callbacks that change things, or use the model."""
        name = ["rate", "scale", "evaluate", "set_parameter", "trainable", "load_state", "value", "fit", "frozen", "max_norm"][
            rng.integers(10)
        ]
        seed, found = int(rng.integers(1000)), []

        def calling(epoch):
            inner = np.random.default_rng(seed)
            found.extend(getattr(self, {"scale": "set_scale"}.get(name, name))(inner) or [])

        return [*self._fit(rng, callbacks=[calling]), *found]

    def fit_stream(self, rng):
        chunks = [self._feed(rng, int(rng.integers(1, 3))) for _ in range(4)]
        return [np.array(wyrm.fit(self.model.root, chunks, self.made, backend=self.backend, seed=1).losses)]

    def fit_saving(self, rng):
        self.checkpoint = os.path.join(self.folder, f"{id(self)}-run")
        feed = self._feed(rng, 2)
        self.resumed = feed
        return [
            np.array(wyrm.fit(self.model.root, feed, self.made, seed=2, callbacks=[wyrm.Checkpoint(self.checkpoint)]).losses)
        ]

    def fit_resuming(self, rng):
        if self.checkpoint is None or not os.path.exists(self.checkpoint):
            return None
        many = int(rng.integers(1, 4))
        return [
            np.array(wyrm.fit(self.model.root, self.resumed, self.made, seed=2, num_epochs=many, resume=self.checkpoint).losses)
        ]

    def evaluate(self, rng):
        count = int([1, 1, 2, 4][rng.integers(4)])
        wrong = bool(rng.random() < 0.1)
        choice = rng.integers(3)
        if choice == 0:
            return [wyrm.evaluate(self.model.node, self._feed(rng, count, False, wrong), backend=self.backend)]
        if choice == 1:
            return wyrm.evaluate([self.model.node, self.model.root], self._feed(rng, count, True, wrong), backend=self.backend)
        feed = self._feed(rng, count, False, wrong, nodes=False)
        rows = 1 if isinstance(self.model, Several) else int(rng.integers(1, 3))
        return [wyrm.evaluate(self.model.score, feed, rows=rows, backend=self.backend)]

    # -- graphs, copies

    def take_over(self, rng):
        """Another graph takes over the leaves."""
        z = wyrm.InputNode((1, 1), 2.0, dtype=self.model.dtype)
        self.others.append((z, z * self.model.root.sum(axis=1)))
        self.others[:] = self.others[-2:]

    def use_other(self, rng):
        if not self.others:
            return None
        z, node = self.others[rng.integers(len(self.others))]
        if rng.random() < 0.5:
            z.set_value(number(rng))
        if rng.random() < 0.6:
            node.forward()
        if rng.random() < 0.5:
            node.backward(0.5)
        return [node.value]

    def fresh_graph(self, rng):
        """The model's function anew, for one example."""
        inputs = {name: self.model._input(kind) for name, kind in self.model.kinds.items()}
        root = self.model.loss(**inputs)
        for name, kind in self.model.kinds.items():
            inputs[name].set_value(self._value(kind, rng))
        root.forward()
        root.backward(1.0)
        return [root.value]

    def forget_others(self, rng):
        self.others.clear()
        gc.collect(0)

    def sharing(self, rng):
        """A node over the storage of a parameter that goes again."""
        parameter = self._parameter(rng)
        shared = wyrm.ParameterNode.shared(parameter.storage)
        node = shared.square().sum(axis=0).sum(axis=1)
        node.forward()
        node.backward(1.0)
        SGD(0.01, [shared]).step()
        return [node.value]

    def copied(self, rng):
        """Copies are trained: what they were made of stays as it is."""
        made = (copy.deepcopy if rng.random() < 0.5 else lambda p: pickle.loads(pickle.dumps(p)))(self.model.parameters)
        node = made[0].square().sum(axis=0).sum(axis=1)
        node.forward()
        node.backward(1.0)
        for optimizer in [each] if not isinstance(each := self.make(made), list) else each:
            optimizer.step()
        return [p.value.copy() for p in made]
