"""Faults of who believes what it is given: programs and memory that nobody has looked at."""

from __future__ import annotations

from typing import Any

from wyrm import backend, kernel_backend, sound
from wyrm.memory import Memory
from wyrm.program import Program
from wyrm.room import require_room
from wyrm_conformance.faults.subject import patch_fault

_CHECK = "contract/unsound programs"


def _believed(*_: Any) -> None:
    """Nothing is looked at."""


patch_fault("programs are compiled whatever they say", _CHECK, target=backend, require_sound=_believed)
patch_fault("memory is bound whatever its length", _CHECK, target=kernel_backend, require_room=_believed)

patch_fault("limits of indices are believed", _CHECK, target=sound._Program, numbers=_believed)


def _bound_without_feed(program: Program, memory: Memory, *_: Any) -> None:
    """Memory is looked at, a feed is not."""
    require_room(program, memory)


patch_fault("a feed is bound whatever its width", _CHECK, target=kernel_backend, require_room=_bound_without_feed)
