"""Faulty steps that a caller drives: gradients in use, or not finite, and arrays that have changed, are taken all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from wyrm import backend, kernel_backend
from wyrm.borrowed import CHANGED
from wyrm.frontend import binding
from wyrm.gradient_use import guarded
from wyrm.memory import GradientBuffer, Report
from wyrm.optim import step
from wyrm_conformance.faults.subject import patch_fault

_IN_USE, _IN_DOUBT = "contract/gradients in use", "contract/gradients in doubt"
_ADOPTED = "contract/adopted arrays"
_forward = kernel_backend._KernelPass.forward


def _always(run: Callable[..., int], gradients: Sequence[GradientBuffer]) -> Callable[..., int]:
    """Works on a gradient that is in use, and says afterwards that it is not."""

    def taken(*weight: Any) -> int:
        for gradient in gradients:
            gradient.busy[0] = 0
        return guarded(run, gradients)(*weight)

    return taken


def _after(run: Callable[..., int], gradients: Sequence[GradientBuffer]) -> Callable[..., int]:
    """Looks whether a gradient is in use when it has been worked on."""
    words = [gradient.busy for gradient in gradients]
    alone = guarded(lambda: 0, gradients)

    def late(*weight: Any) -> int:
        return run(*weight) or (alone() if any(word[0] for word in words) else 0)

    return late


def _forgetful(run: Callable[..., int], gradients: Sequence[GradientBuffer]) -> Callable[..., int]:
    """Leaves gradients in use."""
    alone = guarded(run, gradients)

    def marked(*weight: Any) -> int:
        status = alone(*weight)
        for gradient in gradients[:1]:
            gradient.busy[0] = 1
        return status

    return marked


def _unseen(self: Any, leaves: Any) -> int:
    """Makes a step whatever its forward section comes to."""
    status = _forward(self, leaves)
    if status == Report.NOT_FINITE:
        kernel_backend._run(self.bound.update)
        return 0
    return status


def _looking(left_out: str, backward: bool = True) -> Callable[[Any, Any], Any]:
    """Passes that look at adopted arrays themselves, but for something."""
    number = ("flags", "shape", "strides", "dtype", "place", "nothing").index(left_out)

    def attached(self: Any, leaves: Any) -> Any:
        def careful(run: Callable[..., int]) -> Callable[..., int]:
            def looked(*weight: Any) -> int:
                for array in self.bound.memory.adopted:
                    pairs = list(zip(array._found(), array.expected, strict=True))
                    if any(found != expected for n, (found, expected) in enumerate(pairs) if n != number):
                        return CHANGED
                return run(*weight)

            return looked

        return careful(partial(self.forward, leaves)), careful(self.backward) if backward else self.backward

    return attached


def _guarding(name: str, attached: Callable[[Any, Any], Any]) -> None:
    patch_fault(name, _ADOPTED, target=backend.Pass, guards_memory=True, attached=attached)


patch_fault(
    "a pass says that it sees to gradients in use and adopted arrays, and does not",
    _IN_USE,
    _ADOPTED,
    target=backend.Pass,
    guards_memory=True,
)
_guarding("a pass over an adopted array does not look whether it may be written", _looking("flags"))
_guarding("a pass over an adopted array does not look at its dtype", _looking("dtype"))
_guarding("a backward pass does not look at adopted arrays", _looking("nothing", backward=False))
patch_fault("a backward pass takes a gradient that is in use", _IN_USE, target=binding, guarded=_always)
patch_fault("a step takes a gradient that is in use", _IN_USE, target=step, guarded=_always)
patch_fault("a backward pass looks too late whether a gradient is in use", _IN_USE, target=binding, guarded=_after)
patch_fault("a step leaves gradients in use", _IN_USE, target=step, guarded=_forgetful)
patch_fault("a step does not look at gradients", _IN_DOUBT, target=kernel_backend._KernelPass, forward=_unseen)
