"""Why a step was not made: what its status means, and which gradient is not finite."""

from __future__ import annotations

from collections.abc import Sequence

from wyrm.errors import BackendError, NotFiniteError, WyrmError
from wyrm.frontend.origins import origin
from wyrm.frontend.parameters import ParameterNode
from wyrm.gradient_use import IN_USE, in_use
from wyrm.memory import Report

__all__ = ["refusal"]

#: What to look for if the op cannot be named.
_ELSEWHERE = (
    "Look for an op whose derivative is not finite where its operand is, such as sqrt at 0, or for a weight of backward that "
    "is not; inputs and parameters as they are now do not show it"
)


def refusal(owner: str, parameters: Sequence[ParameterNode], status: int) -> WyrmError | None:
    """The error of a step that returned a status, before it changed anything.

    Parameters
    ----------
    owner
        What messages call the optimizer.
    parameters
        What it trains.

    Returns
    -------
    ``None`` if the status is ``NOT_FINITE`` although all gradients are finite: only their squares overflow.

    Raises
    ------
    OptionError
        If an array that a parameter has adopted is no longer what it was.
    """
    if status == IN_USE:
        return in_use(f"the step of {owner}")
    if status != Report.NOT_FINITE:
        for node in parameters:
            node.storage.check_adopted()
        return BackendError(f"the step of {owner} failed with status {status}")
    wrong = [node for node in parameters if node.trainable and not node._gradient_buffer().is_finite()]
    if not wrong:
        return None
    labels = " and ".join(node._label() for node in wrong)
    label, story = next(filter(None, map(origin, wrong)), (wrong[0]._label(), _ELSEWHERE))
    return NotFiniteError(
        f"{owner}: the gradient of {labels} is NaN or infinite; no parameter was updated. {story}. "
        "zero_gradient() passes over the example",
        node=label,
    )
