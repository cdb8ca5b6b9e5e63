"""What layers have in common: their parameters, and copies that share them."""

from __future__ import annotations

import copy
from typing import TypeVar

from wyrm.frontend.parameters import ParameterNode

__all__ = ["Module"]

M = TypeVar("M", bound="Module")


class Module:
    """The base of layers: attributes that are parameters, or layers themselves, are trained.

    Examples
    --------
    >>> from wyrm import nn
    >>> class Tower(nn.Module):
    ...     def __init__(self):
    ...         self.first, self.second = nn.Linear(8, 4, rng=1), nn.Linear(4, 1, rng=2)
    ...
    ...     def forward(self, x):
    ...         return self.second.forward(self.first.forward(x).relu())
    >>> len(Tower().parameters())
    4
    """

    def parameters(self) -> list[ParameterNode]:
        """The parameters, in the order in which they were set, each once."""
        return list(self.named_parameters().values())

    def named_parameters(self) -> dict[str, ParameterNode]:
        """The same by the attributes that lead to each, such as ``first.weights``; :func:`wyrm.save` calls them so."""
        found: dict[ParameterNode, str] = {}
        for name, value in vars(self).items():
            if isinstance(value, ParameterNode):
                found.setdefault(value, name)
            elif isinstance(value, Module):
                for inner, node in value.named_parameters().items():
                    found.setdefault(node, f"{name}.{inner}")
        return {name: node for node, name in found.items()}

    def clone(self: M) -> M:
        """A layer with nodes of its own over the same parameter storage, to be used by another thread."""
        return self._cloned({})

    def _cloned(self: M, nodes: dict[ParameterNode, ParameterNode]) -> M:
        twin = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, ParameterNode):
                if value not in nodes:
                    nodes[value] = ParameterNode.shared(value.storage, name=value.name, trainable=value.trainable)
                setattr(twin, name, nodes[value])
            elif isinstance(value, Module):
                setattr(twin, name, value._cloned(nodes))
        return twin
