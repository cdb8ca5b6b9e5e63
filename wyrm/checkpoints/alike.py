"""Parameters of one shape that no names tell apart: how a file says which is which.

Such parameters have numbers, in the order in which they are given: two tables in another order would be taken for each other.
So a file has for each, beside its number, its rank in the order in which they were made, and a fingerprint of the value that it
was made with. A script that is run again makes and gives its parameters in the same order as before, so both are the same; if a
rank differs, or fingerprints have changed places, the file is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from wyrm.errors import CheckpointError
from wyrm.frontend.storage import HogwildParameter

__all__ = ["Alike"]


class Alike:
    """The parameters of a model that are alike.

    Parameters
    ----------
    parameters
        For each parameter of the model: its name; what those have in common that are alike with it, or ``None`` if its
        name is its own; its storage.
    """

    def __init__(self, parameters: Iterable[tuple[str, Any, HogwildParameter]]) -> None:
        kinds: dict[Any, dict[str, HogwildParameter]] = {}
        for name, kind, storage in parameters:
            if kind is not None:
                kinds.setdefault(kind, {})[name] = storage
        self._sets = [named for named in kinds.values() if len(named) > 1]

    @property
    def description(self) -> dict[str, list[int]]:
        """By name: the rank in the order in which the parameters were made, and the fingerprint."""
        found: dict[str, list[int]] = {}
        for named in self._sets:
            ranks = {name: rank for rank, name in enumerate(sorted(named, key=lambda name: named[name].number))}
            found |= {name: [ranks[name], storage.fingerprint] for name, storage in named.items()}
        return found

    def compare(self, found: Any, source: str, wanted: Collection[str] | None = None) -> None:
        """Raise a :class:`CheckpointError` if the parameters of a file might be taken for each other.

        Parameters
        ----------
        found
            The :attr:`description` in the file.
        source
            The file, for messages.
        wanted
            The parameters to be put back; without, all. If none of them is alike with others, nothing can be taken for it.
        """
        own = self.description
        if not isinstance(found, dict) or not all(
            isinstance(entry, list) and [type(number) for number in entry] == [int, int] for entry in found.values()
        ):
            raise CheckpointError(f"{source}: the file's document does not say which of its parameters are alike")
        if wanted is not None and {*own, *found}.isdisjoint(wanted):
            return
        for name in [*own, *found]:
            if name not in own or name not in found:
                there, here = ("the file", "the model") if name not in own else ("the model", "the file")
                raise CheckpointError(
                    f"{source}: {name!r} is the number of a parameter among others of its shape in {there}, and not in {here}, "
                    f"so it may be another one. {_REMEDY}"
                )
        for named in self._sets:
            for name in named:
                rank, fingerprint = own[name]
                others = [found[other][1] for other in named if other != name]
                if found[name][0] != rank or (found[name][1] != fingerprint and fingerprint in others):
                    raise CheckpointError(
                        f"{source}: the parameters {', '.join(map(repr, named))} are of one shape, no names tell them apart, "
                        f"and they are made or given in another order here than when the file was written. {_REMEDY}"
                    )


_REMEDY = (
    "Let the order be the same; or name the parameters: give the optimizer, wyrm.save and wyrm.load a module, or a mapping "
    "from names to parameters, and to wyrm.load what it is to rename, if the file has numbers"
)
