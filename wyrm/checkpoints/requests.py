"""What of a file does not fit a model, made to fit because somebody asks for it: other names, a part, other dtypes.

Each function takes the state that a file has, and gives another; the model is not touched. So whatever is refused here, and in
the comparison that follows, leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.checkpoints.state import Model, ModelState, listed
from wyrm.errors import CheckpointError, DTypeError, OptionError

__all__ = ["Rename", "cast_to", "part_of", "renamed", "reshaped_to"]

Array = npt.NDArray[Any]
#: From names in a file to those in a model.
Rename = Mapping[str, str] | Callable[[str], str]


def renamed(state: ModelState, rename: Rename, source: str) -> ModelState:
    """The parameters of the state under other names.

    Raises
    ------
    OptionError
        If a mapping names a parameter that the file has not, two parameters get one name, or a name is no string.
    """
    names: list[str] = state.description["parameters"]
    if isinstance(rename, Mapping):
        unknown = [name for name in rename if name not in names]
        if unknown:
            raise OptionError(f"load: rename has {unknown[0]!r}, and the parameters of {source} are {listed(names)}")
        new = {name: rename.get(name, name) for name in names}
    elif callable(rename):
        new = {name: rename(name) for name in names}
    else:
        raise DTypeError(f"load: expected rename to be a mapping or a function of a name, got {shown(rename)}")
    old: dict[str, str] = {}
    for name, to in new.items():
        if not isinstance(to, str) or not to:
            raise OptionError(f"load: expected rename to give a name for {name!r}, got {to!r}")
        if to in old:
            raise OptionError(f"load: rename gives the name {to!r} to {old[to]!r} and to {name!r}, parameters of {source}")
        old[to] = name
    alike = state.description.get("alike", {})
    if isinstance(alike, dict):  # who renames a parameter says which it is
        alike = {name: entry for name, entry in alike.items() if new.get(name) == name}
    return ModelState(
        {new[name]: state.arrays[name] for name in names}, {"parameters": list(old), "optimizers": [], "alike": alike}
    )


def part_of(state: ModelState, model: Model, source: str) -> tuple[ModelState, Model]:
    """The parameters that state and model have both, of either.

    Raises
    ------
    CheckpointError
        If there are none, or if some might be taken for others.
    """
    names = [name for name in model.nodes if name in state.description["parameters"]]
    if not names:
        raise CheckpointError(
            f"{source}: has no parameter of the model; its parameters are {listed(state.description['parameters'])}, "
            f"those of the model {listed(model.nodes)}"
        )
    model.alike.compare(state.description.get("alike", {}), source, names)
    part = ModelState({name: state.arrays[name] for name in names}, {"parameters": names, "optimizers": []})
    return part, Model({name: model.nodes[name] for name in names})


def cast_to(state: ModelState, model: Model, source: str) -> ModelState:
    """The state with parameters of the model's dtypes.

    Raises
    ------
    CheckpointError
        If an array has no real numbers, or finite ones that are beyond the model's dtype.
    """
    arrays = dict(state.arrays)
    for name, node in model.nodes.items():
        if name not in arrays or arrays[name].dtype.name == node.dtype:
            continue
        array = arrays[name]
        if array.dtype.kind not in "fiu":
            raise CheckpointError(f"{source}: parameter {name!r}: expected real numbers to cast, found {array.dtype}")
        with np.errstate(over="ignore", under="ignore"):
            arrays[name] = array.astype(node.dtype)
        if not (np.isfinite(arrays[name]) | ~np.isfinite(array)).all():
            raise CheckpointError(f"{source}: parameter {name!r}: has finite numbers that are infinite in {node.dtype}")
    return ModelState(arrays, state.description)


def reshaped_to(state: ModelState, model: Model) -> ModelState:
    """The state with matrices for vectors and numbers, as parameters have them."""
    arrays = dict(state.arrays)
    for name, node in model.nodes.items():
        if name in arrays and arrays[name].ndim < 2 and node.shape in ((1, arrays[name].size), (arrays[name].size, 1)):
            arrays[name] = arrays[name].reshape(node.shape)
    return ModelState(arrays, state.description)
