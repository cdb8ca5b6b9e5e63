""":func:`save` and :func:`load`: models in files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_list
from wyrm.checkpoints.files import StoredPath, path_name, read_file, write_file
from wyrm.checkpoints.requests import Rename, cast_to, part_of, renamed, reshaped_to
from wyrm.checkpoints.state import Model, ModelState, Parameters
from wyrm.errors import CheckpointError, OptionError
from wyrm.optim import Optimizer

__all__ = ["Saved", "load", "read", "save", "write"]

Array = npt.NDArray[Any]


@dataclass
class Saved:
    """What stands in a checkpoint beside what :func:`load` puts back.

    Attributes
    ----------
    parameters
        The values by name.
    metadata
        What :func:`save` was given.
    run
        Of a checkpoint that was made as :func:`wyrm.fit` ran: ``epoch``, the number of epochs made; ``history``, as
        :meth:`wyrm.History.to_json` writes it; ``options``, which must be the same where the run is resumed; ``frozen``, the
        names of the parameters that were not trainable. Else ``None``.
    missing, unused
        If part of a model was loaded: the names of the parameters that the file has not, which are as they were, and of those
        that the model has not.
    """

    parameters: dict[str, Array]
    metadata: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def save(
    path: StoredPath,
    parameters: Parameters,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a model to a file in the format safetensors.

    The file is whole or not there: a process that is killed at any instant leaves the old file or the new one. Rows that an
    optimizer has left behind are caught up with. The values are copied first, so other threads may go on training.

    Parameters
    ----------
    path
        Where to. A file that is there is replaced, with its mode; through a link, the file that it names. Nothing but files is.
    parameters
        A node, for the parameters behind it; a module of :mod:`wyrm.nn`; a mapping from names to parameters; or parameters.
        In the file they have the names of the mapping, or their paths in the module (``layers.0.weights``). Else they have
        their paths in the module that the optimizer was given, or the nodes' own names; to names that occur twice or are
        missing, numbers are added in the order of the parameters. If only such a number tells parameters of one shape apart,
        the file is refused by :func:`load` where they are made or given in another order.
    optimizer
        One, or several, whose state is saved as well: steps, rules, options, and what they keep for each parameter.
    metadata
        What is to be kept beside it, such as an epoch or a seed: anything that JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written, naming it: the disk is full, the folder is read-only. What was there is as it was. Only
        if the message says that the new file is there, which is if its folder could not be brought to the disk, it is, whole.
    CheckpointError
        If the path names what is no file: a folder, a pipe, a device.
    OptionError
        Where there are no parameters, the names of two are the same, or the metadata cannot be written as JSON.

    Examples
    --------
    >>> import os, tempfile, numpy as np, wyrm
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> weights = wyrm.ParameterNode(np.ones((2, 3)), name="weights")
    >>> wyrm.save(path, [weights], metadata={"epoch": 5})
    >>> weights.set_value(np.zeros((2, 3)))
    >>> wyrm.load(path, [weights]).metadata
    {'epoch': 5}
    >>> weights.value
    array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)
    """
    try:
        plain = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise OptionError(f"save: expected metadata that JSON can hold; {error}") from None
    write(path, Model(parameters, _several(optimizer)).state(), metadata=plain)


def load(
    path: StoredPath,
    parameters: Parameters | None = None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    strict: bool = True,
    rename: Rename | None = None,
    cast: bool = False,
    foreign: bool = False,
) -> Saved:
    """Read a model from a file that :func:`save` or a :class:`wyrm.Checkpoint` wrote, on any backend.

    File and model must have the same parameters, of the same shapes and dtypes. What is to differ has to be asked for: by
    ``strict``, ``rename``, ``cast`` and ``foreign``, which are for parameters alone, without optimizers.

    Parameters
    ----------
    path
        Where it stands. Nothing in the file is executed.
    parameters
        Those to put the values back into, as they were given to :func:`save`; for the checkpoints of :func:`wyrm.fit`, the
        module that the optimizer was given, or that was trained by itself or by a method; or else the loss. Without, the
        file is read and nothing else.
    optimizer
        One, or several, to put the state back into. Their options must be those of the ones that were saved; learning rates
        are taken over.
    strict
        ``False``: put back the parameters that file and model have both, at least one. ``missing`` and ``unused`` of the result
        have the names of the others.
    rename
        Other names for parameters of the file: a mapping from its names, or a function that is called with each.
    cast
        Whether to convert values to the parameters' dtypes. Finite numbers must stay finite.
    foreign
        Whether the file may be one that others wrote, such as PyTorch. A vector fits a row or a column. Other layouts are not
        converted, be they as square as those that are expected: for instance, PyTorch's ``Linear`` has the transpose of the
        weights here. Then read the file alone, and use ``set_value``; see the example.

    Returns
    -------
    Saved
        The values by name, and what was saved beside them.

    Raises
    ------
    OSError
        Where the file cannot be opened.
    CheckpointError
        Where it is no checkpoint, not whole, or that of another model or optimizer, naming what differs.
    OptionError
        If ``rename`` is not for this file, or something is asked for that cannot be had for an optimizer.

    Whatever is raised, be it for want of memory or by Ctrl-C, nothing has changed then. For that, what is to be overwritten is
    copied first: while a model is loaded, it needs room for itself, for the file and for this copy.

    Examples
    --------
    >>> import os, tempfile, numpy as np, wyrm
    >>> from safetensors.numpy import save_file
    >>> path = os.path.join(tempfile.mkdtemp(), "theirs.safetensors")
    >>> save_file({"fc.weight": np.ones((2, 3), "float32"), "fc.bias": np.ones(2, "float32")}, path)
    >>> layer = wyrm.nn.Linear(3, 2)
    >>> saved = wyrm.load(path, layer, foreign=True, strict=False, rename={"fc.bias": "biases"})
    >>> saved.missing, saved.unused
    (['weights'], ['fc.weight'])
    >>> layer.weights.set_value(saved.parameters["fc.weight"].T)
    """
    state, saved = read(path, foreign)
    source = path_name(path)
    if parameters is None and optimizer is not None:
        raise OptionError("load: expected the parameters, too, where there is an optimizer")
    if optimizer is not None and (not strict or rename is not None or cast or foreign):
        raise OptionError(
            "load: strict=False, rename, cast and foreign are for parameters; the state of an optimizer is put back into the "
            "same model only. Load without it"
        )
    if parameters is None:
        if not strict or rename is not None or cast:
            raise OptionError("load: strict=False, rename and cast are for parameters to put values into; there are none")
        return saved
    model = Model(parameters, _several(optimizer))
    if rename is not None:
        state = renamed(state, rename, source)
    if not strict:
        whole, unused = model, [name for name in state.description["parameters"] if name not in model.nodes]
        state, model = part_of(state, model, source)
        saved.missing, saved.unused = [name for name in whole.nodes if name not in model.nodes], unused
    if foreign:
        state = reshaped_to(state, model)
    if cast:
        state = cast_to(state, model, source)
    model.restore(state, source)
    return saved


def write(path: StoredPath, state: ModelState, **further: Any) -> None:
    """Write the state of a model, and what else goes into the document."""
    write_file(path, state.arrays, {**state.description, **further})


def read(path: StoredPath, foreign: bool = False) -> tuple[ModelState, Saved]:
    """The state in a file, and what users see of it."""
    arrays, document = read_file(path, foreign)
    names = document.get("parameters")
    metadata, run = document.get("metadata", {}), document.get("run")
    if not (
        isinstance(names, list)
        and all(isinstance(name, str) and name in arrays for name in names)
        and isinstance(metadata, dict)
        and isinstance(run, (dict, type(None)))
    ):
        raise CheckpointError(f"{path_name(path)}: the file's document does not say what its arrays are")
    return ModelState(arrays, document), Saved({name: np.asarray(arrays[name]) for name in names}, metadata, run)


def _several(optimizer: Optimizer | Iterable[Optimizer] | None) -> list[Optimizer]:
    if optimizer is None:
        return []
    if isinstance(optimizer, Optimizer):
        return [optimizer]
    return as_list(optimizer, "checkpoint", "an optimizer or several")
