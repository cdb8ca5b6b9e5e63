"""Steps that a caller drives leave alone what they must: gradients in use, or not finite, and arrays that have changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD, Optimizer
from wyrm_conformance.check import Array, Context, check

__all__: list[str] = []

#: What a gradient of the check is: rows of a table, or a matrix.
_KINDS = ("rows", "matrix")
#: How an array that was adopted is changed, and put back.
_CHANGES: dict[str, tuple[Callable[[Array], None], Callable[[Array], None] | None]] = {
    "read-only": (lambda array: array.setflags(write=False), lambda array: array.setflags(write=True)),
    "of another shape": (lambda array: _let(array, "shape", (4, 3)), lambda array: _let(array, "shape", (6, 2))),
    "of one axis": (lambda array: _let(array, "shape", (12,)), lambda array: _let(array, "shape", (6, 2))),
    "of another dtype": (lambda array: _let(array, "dtype", np.int32), lambda array: _let(array, "dtype", np.float32)),
    "elsewhere": (lambda array: _move(array), None),
}


def _move(array: Any) -> None:
    array.__setstate__((1, (6, 2), array.dtype, False, bytes(48)))


def _let(array: Array, attribute: str, value: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of newer versions of NumPy
        setattr(array, attribute, value)


def _model(
    kind: str, factor: float = 1.0, adopted: Array | None = None
) -> tuple[wyrm.ParameterNode, wyrm.InputNode, wyrm.Node, Optimizer]:
    """A parameter of zeros, an input, a loss whose gradient is its square wherever it is not 0, and an optimizer."""
    value = np.zeros((6, 2)) if adopted is None else adopted
    table = wyrm.ParameterNode(value, name="table", copy=adopted is None)
    x = wyrm.InputNode((1, 1), factor)
    used = table.index(wyrm.IndexInputNode(2, [1, 4])) if kind == "rows" else table
    return table, x, (used * x * x).scalar_sum(), SGD(1.0, [table])


def _twice(table: wyrm.ParameterNode, loss: wyrm.Node) -> None:
    loss.backward(1.0)
    loss.backward(1.0)


def _refused(context: Context, what: str, error: type[Exception], call: Callable[[], object]) -> None:
    try:
        with context.oracle():  # where a gradient began not to be finite is found out by the reference
            call()
    except error:
        return
    context.require(f"{what} raises {error.__name__}", False)


@check(
    "contract/gradients in use",
    "core",
    "a pass that meets another at work on a gradient changes nothing; and it says so while it works itself",
    section="wyrm/backend.py: Pass.guards_memory",
    at_least=100,
)
def check_in_use(context: Context) -> None:
    """Backward passes and steps, over rows and a matrix; forward passes read no gradient."""
    for kind in _KINDS:
        table, _, loss, optimizer = _model(kind)
        loss.forward(backend=context.backend)
        loss.backward(1.0)
        optimizer.step()
        value = table.value.copy()
        loss.forward()
        loss.backward(1.0)
        expected = table.gradient.to_dense()
        busy = table._gradient_buffer().busy
        for _ in range(2):
            busy[0] = 1
            _refused(context, f"a backward pass to a gradient in use ({kind})", wyrm.ThreadError, partial(loss.backward, 1.0))
            _refused(context, f"a step by a gradient in use ({kind})", wyrm.ThreadError, optimizer.step)
            loss.forward()
            context.require("the gradient is still in use", busy[0] == 1)
            busy[0] = 0
            context.identical("the gradient in use", table.gradient.to_dense(), expected)
            context.identical("the parameter", table.value, value)
        loss.backward(1.0)
        context.require("nobody is at work after a backward pass", busy[0] == 0)
        context.compare("two gradients", table.gradient.to_dense(), 2 * expected, 0)
        optimizer.step()
        context.require("nobody is at work after a step", busy[0] == 0)
        context.compare("the parameter after a step", table.value, value - 2 * expected, 0)


@check(
    "contract/adopted arrays",
    "core",
    "a pass over an array that is no longer what a parameter adopted changes nothing, and goes on when it is put back",
    section="wyrm/backend.py: Pass.guards_memory",
    at_least=40,
)
def check_adopted(context: Context) -> None:
    """Forward and backward passes, and steps, that were bound before the array was changed."""
    for kind in _KINDS:
        for what, (change, put_back) in _CHANGES.items():
            memory = np.zeros((6, 2), np.float32)  # stays, whatever becomes of the array
            array = memory[:]
            table, _, loss, optimizer = _model(kind, adopted=array)
            loss.forward(backend=context.backend)
            for _ in range(2):
                loss.backward(1.0)
                optimizer.step()
                loss.forward()
            loss.backward(1.0)
            gradient, value = table.gradient.to_dense(), memory.copy()
            calls: dict[str, Callable[[], object]] = {
                "a backward pass": partial(loss.backward, 1.0),
                "a step": optimizer.step,
                "a forward pass": loss.forward,
            }
            for _ in range(2):
                change(array)
                for name, call in calls.items():
                    _refused(context, f"{name} over an array that is {what} ({kind})", wyrm.OptionError, call)
                context.identical("what was adopted", memory, value)
                if put_back is None:
                    break
                put_back(array)
                loss.forward()
                context.identical("the gradient", table.gradient.to_dense(), gradient)
            else:
                optimizer.step()
                context.compare("the array after a step", memory, value - gradient, 0)


@check(
    "contract/gradients in doubt",
    "core",
    "an optimizer's step by a gradient that is not finite changes nothing, and one that is large is made",
    section="wyrm/backend.py: Backend.looks_at_gradients",
    at_least=100,
)
def check_in_doubt(context: Context) -> None:
    """NaN and infinity by an input, by the weight, by passes that add up, and as they are set; behind a loss of 0."""
    ways: dict[str, tuple[float, Callable[[wyrm.ParameterNode, wyrm.Node], object]]] = {
        "an input": (1e25, lambda table, loss: loss.backward(1.0)),
        "the weight": (1e10, lambda table, loss: loss.backward(1e30)),
        "a weight that is NaN": (1.0, lambda table, loss: loss.backward(np.nan)),
        "passes that add up": (1.4e19, _twice),
        "being set": (1.0, lambda table, loss: table.set_gradient(np.full((6, 2), np.inf))),
        "a weight of its own": (1.0, lambda table, loss: table.backward(np.inf)),
    }
    for kind in _KINDS:
        for way, (factor, spoil) in ways.items():
            table, x, loss, optimizer = _model(kind, factor)
            loss.forward(backend=context.backend)
            spoil(table, loss)
            for _ in range(2):
                _refused(context, f"a step by a gradient that is spoilt by {way} ({kind})", wyrm.NotFiniteError, optimizer.step)
                context.identical("the parameter", table.value, np.zeros((6, 2), np.float32))
            optimizer.zero_gradient()
            x.set_value(1.0)
            loss.forward()
            loss.backward(0.5)
            optimizer.step()
            expected = np.zeros((6, 2))
            expected[[1, 4] if kind == "rows" else slice(None)] = -0.5
            context.compare(f"the step after {way} ({kind})", table.value, expected, 1e-6)
        table, _, loss, optimizer = _model(kind, 1e15)
        loss.forward(backend=context.backend)
        loss.backward(1.0)
        optimizer.step()
        context.compare(f"a large gradient ({kind})", table.value[1], np.full(2, -1e30), 1e-6)
