"""The hooks that a plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from wyrm.backend import Declaration

__all__ = ["ENTRY_POINT_GROUP", "hookimpl", "hookspec"]

#: The name of the pluggy project, and of the entry-point group in which packages name their plugins.
ENTRY_POINT_GROUP = "wyrm"

hookspec = pluggy.HookspecMarker(ENTRY_POINT_GROUP)
hookimpl = pluggy.HookimplMarker(ENTRY_POINT_GROUP)


@hookspec
def wyrm_backend() -> Declaration:  # type: ignore[empty-body]
    """Declare a backend: its name, what it can do and how to load it. Must be quick and import nothing heavy."""
