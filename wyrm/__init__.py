"""Wyrm: reverse-mode automatic differentiation for sparse, small models on CPUs, with swappable backends.

Build a model from nodes (:class:`InputNode`, :class:`IndexInputNode`, :class:`ParameterNode` and the ops that are their
methods), then drive it step by step (:meth:`Node.forward`, :meth:`Node.backward`, an optimizer of :mod:`wyrm.optim`), or
leave the loop to native code with :func:`fit` and :func:`evaluate`.
"""

from wyrm import nn, optim
from wyrm._version import __version__
from wyrm.checkpoints import Saved, load, save
from wyrm.errors import (
    BackendError,
    CapabilityError,
    CheckpointError,
    DTypeError,
    FeedError,
    LabelError,
    MissingValueError,
    NotFiniteError,
    OptionError,
    OutOfRangeError,
    ProgramError,
    ShapeError,
    StaleError,
    ThreadError,
    UnknownBackendError,
    WyrmError,
)
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.bags import Bags
from wyrm.frontend.composition import composition
from wyrm.frontend.drawing import Drawing, draw
from wyrm.frontend.gradcheck import finite_difference
from wyrm.frontend.gradients import DenseGradient, RowSparseGradient
from wyrm.frontend.inputs import IndexInputNode, InputNode
from wyrm.frontend.loops import each, scan
from wyrm.frontend.mode import evaluating
from wyrm.frontend.node import Node
from wyrm.frontend.ops.choices import where
from wyrm.frontend.ops.shapes import stack
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.samples import Frequencies, SampledIndexNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.plugins import BackendStatus, backends
from wyrm.selection import get_backend, use_backend
from wyrm.training import (
    Callback,
    Checkpoint,
    Dense,
    EarlyStopping,
    Epoch,
    History,
    LearningRate,
    Ragged,
    Run,
    evaluate,
    fit,
)

__all__ = [
    "BackendError",
    "BackendStatus",
    "BagInputNode",
    "Bags",
    "Callback",
    "CapabilityError",
    "Checkpoint",
    "CheckpointError",
    "DTypeError",
    "Dense",
    "DenseGradient",
    "Drawing",
    "EarlyStopping",
    "Epoch",
    "FeedError",
    "Frequencies",
    "History",
    "HogwildParameter",
    "IndexInputNode",
    "InputNode",
    "LabelError",
    "LearningRate",
    "MissingValueError",
    "Node",
    "NotFiniteError",
    "OptionError",
    "OutOfRangeError",
    "ParameterNode",
    "ProgramError",
    "Ragged",
    "RowSparseGradient",
    "Run",
    "SampledIndexNode",
    "Saved",
    "ShapeError",
    "StaleError",
    "ThreadError",
    "UnknownBackendError",
    "WyrmError",
    "__version__",
    "backends",
    "composition",
    "draw",
    "each",
    "evaluate",
    "evaluating",
    "finite_difference",
    "fit",
    "get_backend",
    "load",
    "nn",
    "optim",
    "save",
    "scan",
    "stack",
    "use_backend",
    "where",
]
