"""The state of optimizers as arrays by name: what :meth:`Optimizer.state_dict` gives, and how it is checked and put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.stale_rows import check_missed
from wyrm.frontend.values import as_dtype, as_reals
from wyrm.optim.group import RunningGroup, checked_number

if TYPE_CHECKING:
    from wyrm.optim.optimizer import Optimizer

__all__ = ["checked_state", "put_back", "state_of", "undo_of"]

Array = npt.NDArray[Any]
#: How many steps fit where they are counted.
_MOST_STEPS = 2**62


def state_of(groups: Sequence[RunningGroup], steps: int) -> dict[str, Array]:
    """The state of an optimizer that has made so many steps; copies."""
    state: dict[str, Array] = {"steps": np.array(steps)}
    state["learning_rates"] = np.array([group.learning_rate for group in groups])
    state["scheduled"] = np.array([group.schedule is not None for group in groups])
    for number, group, node in _numbered(groups):
        for name, array in node.storage.kept(group.rule).items():
            state[f"{number}.{group.rule.name}.{name}"] = array
    return state


def checked_state(owner: str, groups: Sequence[RunningGroup], state: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """The arrays of a state that fits an optimizer, which messages call the owner.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        If it holds no numbers, or is that of another optimizer, of other parameters, or of a schedule that this one was not
        made with.
    """
    if not isinstance(state, Mapping):
        raise DTypeError(f"{owner}: expected the arrays that state_dict gave, by name; got {shown(state)}")
    own = state_of(groups, 0)
    if set(state) != set(own):
        missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
        raise OptionError(f"{owner}: the state lacks {missing} and has {extra} besides; it is another optimizer's")
    arrays = {}
    for key, array in state.items():
        reals = as_reals(array, f"{owner}: {key}")
        arrays[key] = as_dtype(reals, own[key].dtype.name, f"{owner}: {key}") if own[key].dtype.kind == "f" else reals
    for key, array in own.items():
        if ".missed." not in key and arrays[key].shape != array.shape:
            raise ShapeError(f"{owner}: expected {key} of shape {array.shape}, got {arrays[key].shape}")
    steps = arrays["steps"]
    if steps.dtype.kind not in "iu" or not 0 <= int(steps) <= _MOST_STEPS:
        raise OptionError(f"{owner}: expected steps to be a whole number of at least 0, got {steps}")
    for number, group, node in _numbered(groups):
        check_missed(owner, _part(arrays, number, group), node.shape)
    for rate in arrays["learning_rates"].tolist():
        checked_number(owner, "learning_rate", rate)
    for group, follows in zip(groups, arrays["scheduled"].astype(bool).tolist(), strict=True):
        if follows and group.given_schedule is None:
            raise OptionError(f"{owner}: the state's learning rate follows a schedule; give the optimizer here the same one")
    return arrays


def put_back(optimizer: Optimizer, arrays: Mapping[str, Array]) -> None:
    """Have an optimizer take over a state that was checked; if something is raised, :func:`undo_of` has the remedy."""
    for number, group, node in _numbered(optimizer.groups):
        node.storage.put_back(group.rule_of(node), group.scalars, _part(arrays, number, group))
    rates, scheduled = (arrays[name].tolist() for name in ("learning_rates", "scheduled"))
    for group, rate, follows in zip(optimizer.groups, rates, scheduled, strict=True):
        group.restore_rate(float(rate), bool(follows))
    optimizer.count_to(int(arrays["steps"]))
    optimizer.follow_schedules()


def undo_of(optimizers: Sequence[Optimizer]) -> list[Callable[[], None]]:
    """What lets parameters and their states, steps and rates be as they are now."""
    groups = [group for optimizer in optimizers for group in optimizer.groups]
    storages = [node.storage.undo() for group in groups for node in group.parameters]
    counts = [partial(optimizer.count_to, optimizer.steps) for optimizer in optimizers]
    return [*storages, *(group.undo() for group in groups), *counts]


def _numbered(groups: Sequence[RunningGroup]) -> list[tuple[int, RunningGroup, ParameterNode]]:
    """The parameters, each with its number and its group."""
    pairs = [(group, node) for group in groups for node in group.parameters]
    return [(number, *pair) for number, pair in enumerate(pairs)]


def _part(state: Mapping[str, Array], number: int, group: RunningGroup) -> dict[str, Array]:
    """Of a state, what is kept for one parameter."""
    prefix = f"{number}.{group.rule.name}."
    return {key.removeprefix(prefix): array for key, array in state.items() if key.startswith(prefix)}
