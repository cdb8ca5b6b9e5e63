"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from wyrm.errors import OptionError
from wyrm.optim.group import Given
from wyrm.optim.optimizer import Optimizer
from wyrm.optim.schedules import Schedule
from wyrm.program import State

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam (Kingma and Ba, ICLR 2015, algorithm 1), with steps counted by row.

    ``mean`` and ``square`` are the exponential averages of gradient and squared gradient; both are divided by the same
    average of ones (the bias correction), which is kept for each row: so a row that is seen seldom is corrected by how
    often it was seen. Of a dense gradient every row is seen at each step, and this is the algorithm as published.

    Rows that a step does not touch stay as they are: the moves that the averages would have made meanwhile, and their
    fading, are left out (as in PyTorch's ``SparseAdam``). ``weight_decay`` is not: rows are caught up with.

    Parameters
    ----------
    learning_rate, parameters, l2, weight_decay, clip_value, clip_norm
        As for :class:`wyrm.optim.SGD`.
    betas
        How much of the two averages stays at each step; below 1.
    eps
        Added to the root of the averaged squares, which may be 0; above 0.

    Examples
    --------
    >>> import wyrm
    >>> weight = wyrm.ParameterNode(1.0)
    >>> loss = weight.square()
    >>> optimizer = wyrm.optim.Adam(0.25, loss.parameters())
    >>> loss.forward(); loss.backward(1.0); optimizer.step()
    >>> round(float(weight.value[0, 0]), 4)
    0.75
    """

    __slots__ = ()

    name = "adam"
    states = (State("mean"), State("square"), State("mean_weight", per="row"), State("square_weight", per="row"))
    always = frozenset({"learning_rate", "beta1", "beta2", "eps"})
    fractions = frozenset({"beta1", "beta2"})
    divisors: ClassVar[Mapping[str, tuple[str, ...]]] = {"eps": ()}

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Given,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            parameters,
            betas=betas,
            eps=eps,
            l2=l2,
            weight_decay=weight_decay,
            clip_value=clip_value,
            clip_norm=clip_norm,
        )

    @classmethod
    def numbers(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The two betas as two scalars."""
        numbers = dict(options)
        try:
            numbers["beta1"], numbers["beta2"] = numbers.pop("betas")
        except (TypeError, ValueError):
            raise OptionError(f"{cls.__name__}: expected two numbers as betas, got {options['betas']!r}") from None
        return numbers

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A step along the corrected averages."""

        def average(before: Any, now: Any, beta: Any) -> Any:
            return k.add(before, k.multiply(k.subtract(k.literal(1.0), beta), k.subtract(now, before)))

        mean = average(state.mean, gradient, scalar.beta1)
        square = average(state.square, k.multiply(gradient, gradient), scalar.beta2)
        mean_weight = average(state.mean_weight, k.literal(1.0), scalar.beta1)
        square_weight = average(state.square_weight, k.literal(1.0), scalar.beta2)
        step = k.divide(k.divide(mean, mean_weight), k.add(k.sqrt(k.divide(square, square_weight)), scalar.eps))
        states = {"mean": mean, "square": square, "mean_weight": mean_weight, "square_weight": square_weight}
        return k.subtract(value, k.multiply(scalar.learning_rate, step)), states


class AdamW(Adam):
    """:class:`Adam` with ``weight_decay`` of .01 unless it is given (Loshchilov and Hutter, ICLR 2019)."""

    __slots__ = ()

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Given,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        l2: float = 0.0,
        weight_decay: float = 0.01,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            parameters,
            betas=betas,
            eps=eps,
            l2=l2,
            weight_decay=weight_decay,
            clip_value=clip_value,
            clip_norm=clip_norm,
        )
