"""What of a model is kept: the values of its parameters by name, and what its optimizers keep beside them.

A state is arrays by name, and a description in plain numbers and strings that says what they are: so it can stand in a file, or
wait in memory. It is compared with the model that it is put back into before anything changes: names, shapes, dtypes,
optimizers, rules and their options must be the same. Learning rates may have been set since, so they are put back as well.

Values and states are up to date, for whoever reads a file. If optimizers have left rows behind, arrays with ``missed`` in their
names say which, and how they are kept: so training goes on to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_list
from wyrm.checkpoints.alike import Alike
from wyrm.errors import CheckpointError, DTypeError, OptionError, ShapeError
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.nn.module import Module
from wyrm.optim import Optimizer
from wyrm.optim.state import checked_state, put_back, undo_of
from wyrm.whole import undone

__all__ = ["Model", "ModelState", "Parameters", "listed"]

Array = npt.NDArray[Any]
#: In which forms parameters are given.
Parameters = Node | Module | Mapping[str, ParameterNode] | Iterable[ParameterNode]
#: How many steps fit where they are counted.
_MOST_STEPS = 2**62


class ModelState:
    """The state of a model: see the module.

    Attributes
    ----------
    arrays
        Values under the parameters' names; states under ``NAME/RULE.STATE``.
    description
        ``parameters``: their names; ``optimizers``: for each its class, steps and groups; ``alike``: see :mod:`.alike`.
    """

    def __init__(self, arrays: dict[str, Array], description: dict[str, Any]) -> None:
        self.arrays, self.description = arrays, description

    def equals(self, other: ModelState) -> bool:
        """Whether another one is the same, and no element is NaN."""
        return (
            self.description == other.description
            and self.arrays.keys() == other.arrays.keys()
            and all(np.array_equal(array, other.arrays[name]) for name, array in self.arrays.items())
        )

    def add(self, prefix: str, arrays: Mapping[str, Array]) -> None:
        """Take further arrays, with a prefix to their names."""
        for name, array in arrays.items():
            if prefix + name in self.arrays:
                raise OptionError(f"checkpoint: a parameter is named {prefix + name!r}, which is where something else goes")
            self.arrays[prefix + name] = array

    def take(self, prefix: str) -> dict[str, Array]:
        """Give away the arrays whose names have a prefix, by what follows it."""
        names = [name for name in self.arrays if name.startswith(prefix)]
        return {name[len(prefix) :]: self.arrays.pop(name) for name in names}


class Model:
    """Parameters by name, each storage once, and optimizers; parameters of the optimizers alone come last.

    A node stands for the parameters behind it. Names are those of a mapping; of a module, the paths of the parameters
    (``hidden.weights``); else the paths in modules that the optimizers were given, or in the ``owner`` of the loss, or the
    nodes' own names. If such a name
    occurs twice or is missing, a number in the order of the parameters is added (``weights.0``, ``parameter.1``). Parameters of
    one shape that numbers alone tell apart are *alike*: see :mod:`.alike`.
    """

    def __init__(self, parameters: Parameters, optimizers: Sequence[Optimizer] = (), owner: Module | None = None) -> None:
        self.optimizers = list(optimizers)
        given: list[tuple[str, ParameterNode]] = []
        paths: dict[HogwildParameter, str] = {}
        if isinstance(parameters, Module):
            given += parameters.named_parameters().items()
        elif isinstance(parameters, Mapping):
            given += parameters.items()
        else:
            alone = parameters.parameters() if isinstance(parameters, Node) else None
            nodes = as_list(parameters, "checkpoint", "parameters") if alone is None else alone
            given += [("", node) for node in nodes]
        for optimizer in self.optimizers:
            if not isinstance(optimizer, Optimizer):
                raise DTypeError(f"checkpoint: expected an optimizer or several, got {optimizer!r}")
            given += [("", node) for node in optimizer.parameters]
            paths = {**optimizer.paths, **paths}
        if owner is not None:
            paths = {**{node.storage: path for path, node in owner.named_parameters().items()}, **paths}
        distinct: dict[HogwildParameter, tuple[str, ParameterNode]] = {}
        for name, node in given:
            if not isinstance(node, ParameterNode):
                raise DTypeError(f"checkpoint: expected ParameterNodes, got {node!r}")
            distinct.setdefault(node.storage, (name, node))
        own = [(name or paths.get(node.storage) or _own_name(node), bool(name)) for name, node in distinct.values()]
        named = _distinct_names(own)
        kinds = [(kind, *storage.shape, storage.dtype) for storage, (kind, _) in zip(distinct, own, strict=True)]
        numbered = [kind if name != kind[0] else None for name, kind in zip(named, kinds, strict=True)]
        self.alike = Alike(zip(named, numbered, distinct, strict=True))
        self.names = dict(zip(distinct, named, strict=True))
        self.nodes = dict(zip(named, (node for _, node in distinct.values()), strict=True))
        if not self.nodes:
            raise OptionError("checkpoint: expected parameters, got none")

    def state(self) -> ModelState:
        """The state as it is now; a copy."""
        arrays = {name: node.storage.value.copy() for name, node in self.nodes.items()}
        for name, array in self._states().items():
            if name in arrays:
                raise OptionError(f"checkpoint: a parameter is named {name!r}, which is where a state of another one goes")
            arrays[name] = array
        return ModelState(arrays, self._description())

    def _states(self) -> dict[str, Array]:
        """What optimizers keep, by the names of the arrays: copies."""
        return {
            f"{self.names[node.storage]}/{group.rule.name}.{name}": array
            for optimizer in self.optimizers
            for group in optimizer.groups
            for node in group.parameters
            for name, array in node.storage.kept(group.rule).items()
        }

    def _description(self) -> dict[str, Any]:
        optimizers = []
        for optimizer in self.optimizers:
            groups = [
                {
                    "rule": group.rule.name,
                    "options": group.options,
                    "scheduled": group.schedule is not None,
                    "states": [state.name for state in group.rule.states],
                    "parameters": [self.names[node.storage] for node in group.parameters],
                }
                for group in optimizer.groups
            ]
            optimizers.append({"class": type(optimizer).__name__, "steps": optimizer.steps, "groups": groups})
        return {"parameters": list(self.nodes), "optimizers": optimizers, "alike": self.alike.description}

    # -- putting back

    def restore(self, state: ModelState, source: str) -> None:
        """Put a state back.

        Raises
        ------
        CheckpointError
            Where it is that of another model or optimizer, naming ``source`` and what differs.

        Whatever is raised, nothing has changed then.
        """
        self.compare(state, source)
        states = self._optimizer_states(state, source)
        trained = {node.storage for optimizer in self.optimizers for node in optimizer.parameters}
        others = [node.storage.undo() for node in self.nodes.values() if node.storage not in trained]
        with undone([*others, *undo_of(self.optimizers)]):
            for name, node in self.nodes.items():
                node.storage.set_value(state.arrays[name])
            for optimizer, kept in zip(self.optimizers, states, strict=True):
                put_back(optimizer, kept)

    def _optimizer_states(self, state: ModelState, source: str) -> list[dict[str, Array]]:
        """What each optimizer is to take over, which has been found to fit it."""
        states = []
        for optimizer, found in zip(self.optimizers, state.description["optimizers"] if self.optimizers else (), strict=True):
            groups = found["groups"]
            kept: dict[str, Any] = {
                "steps": found["steps"],
                "learning_rates": [group["options"]["learning_rate"] for group in groups],
                "scheduled": [group["scheduled"] for group in groups],
            }
            number = 0
            for group in optimizer.groups:
                for node in group.parameters:
                    for name in node.storage.kept(group.rule):
                        key = f"{group.rule.name}.{name}"
                        kept[f"{number}.{key}"] = state.arrays[f"{self.names[node.storage]}/{key}"]
                    number += 1
            try:
                states.append(checked_state(type(optimizer).__name__, optimizer.groups, kept))
            except (DTypeError, OptionError, ShapeError) as error:
                raise CheckpointError(f"{source}: {error}") from None
        return states

    def compare(self, state: ModelState, source: str) -> None:
        """Raise a :class:`CheckpointError` if a state does not fit this model."""
        found, own = state.description, self._description()
        if not isinstance(found.get("parameters"), list) or not isinstance(found.get("optimizers"), list):
            raise CheckpointError(f"{source}: there are no parameters or optimizers in its document")
        for name in own["parameters"]:
            if name not in found["parameters"] or name not in state.arrays:
                raise CheckpointError(f"{source}: has no parameter {name!r}; its parameters are {listed(found['parameters'])}")
            _check_array(source, f"parameter {name!r}", self.nodes[name].storage.value, state.arrays[name])
        further = [name for name in found["parameters"] if name not in self.nodes]
        if further:
            raise CheckpointError(
                f"{source}: has a parameter {further[0]!r}, which the model has not; its parameters are {listed(self.nodes)}"
            )
        self.alike.compare(found.get("alike", {}), source)
        if not self.optimizers:
            return
        classes = [entry.get("class") if isinstance(entry, dict) else None for entry in found["optimizers"]]
        if classes != [entry["class"] for entry in own["optimizers"]]:
            here = listed(entry["class"] for entry in own["optimizers"])
            raise CheckpointError(f"{source}: expected the optimizers {here}, found {listed(classes)}")
        for number, (here, there) in enumerate(zip(own["optimizers"], found["optimizers"], strict=True)):
            label = f"optimizer {number} ({here['class']})"
            steps = there.get("steps")
            if type(steps) is not int or not 0 <= steps <= _MOST_STEPS:
                raise CheckpointError(f"{source}: {label}: expected a number of steps, found {steps!r}")
            schedules = [group.given_schedule is not None for group in self.optimizers[number].groups]
            _compare_groups(f"{source}: {label}", here["groups"], there.get("groups"), schedules)
            for entry, group in zip(there["groups"], self.optimizers[number].groups, strict=True):
                rate, most = entry["options"]["learning_rate"], float(np.finfo(group.scalars.dtype).max)
                if rate > most:
                    raise CheckpointError(
                        f"{source}: {label}: the learning rate {str(rate)[:20]} is beyond {group.scalars.dtype}"
                    )
        for name, array in self._states().items():
            if name not in state.arrays:
                raise CheckpointError(f"{source}: has no array {name!r}, which the optimizer keeps")
            if ".missed." not in name:
                _check_array(source, f"array {name!r}", array, state.arrays[name])


def _compare_groups(label: str, own: list[dict[str, Any]], found: Any, schedules: Sequence[bool]) -> None:
    """Raise where groups of an optimizer differ in more than the learning rates."""
    if not isinstance(found, list) or len(found) != len(own):
        there = len(found) if isinstance(found, list) else found
        raise CheckpointError(f"{label}: expected {len(own)} groups of parameters, found {there!r}")
    for number, (here, there) in enumerate(zip(own, found, strict=True)):
        where = f"{label}, group {number}"
        if not isinstance(there, dict) or not isinstance(there.get("options"), dict):
            raise CheckpointError(f"{where}: expected a group with options, found {there!r}")
        for name in ("rule", "parameters", "states"):
            if there.get(name) != here[name]:
                raise CheckpointError(f"{where}: expected {name} {here[name]!r}, found {there.get(name)!r}")
        for name in sorted({*here["options"], *there["options"]} - {"learning_rate"}):
            if there["options"].get(name) != here["options"].get(name):
                absent = "none"
                expected, got = here["options"].get(name, absent), there["options"].get(name, absent)
                raise CheckpointError(f"{where}: expected the option {name} to be {expected}, found {got}")
        rate = there["options"].get("learning_rate")
        if type(rate) not in (int, float) or not 0 <= rate < np.inf or type(there.get("scheduled")) is not bool:
            raise CheckpointError(f"{where}: expected a learning rate, found {rate!r}")
        if there["scheduled"] and not schedules[number]:
            raise CheckpointError(f"{where}: its learning rate follows a schedule; give the optimizer here the same one")


def _check_array(source: str, label: str, expected: Array, found: Array) -> None:
    if found.shape != expected.shape:
        raise CheckpointError(f"{source}: {label}: expected shape {expected.shape}, found {found.shape}")
    if found.dtype != expected.dtype:
        raise CheckpointError(f"{source}: {label}: expected dtype {expected.dtype}, found {found.dtype}")


def _own_name(node: ParameterNode) -> str:
    return node.name if isinstance(node.name, str) else ""


def _distinct_names(named: list[tuple[str, bool]]) -> list[str]:
    """Names of which none occurs twice; those that were given for the purpose stay as they are."""
    counts = Counter(name for name, _ in named)
    seen: Counter[str] = Counter()
    names = []
    for name, given in named:
        if given or (name and counts[name] == 1):
            names.append(name)
        else:
            names.append(f"{name or 'parameter'}.{seen[name]}")
            seen[name] += 1
    for name, count in Counter(names).items():
        if count > 1 or name == "__metadata__":
            raise OptionError(f"checkpoint: the name {name!r} cannot be given to a parameter, or to two; choose others")
    return names


def listed(names: Iterable[Any]) -> str:
    """Names for a message, not too many of them."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "") or "none"
