"""What is wrong with a declaration: looked at before anything of it is used, so that a mistake in one harms no other backend.

A declaration is written by somebody else, and its fields are read by whoever lists backends, chooses one or starts a thread. A
word that Wyrm does not know would be without effect, and look as if it had one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from wyrm.backend import Capabilities, Declaration, Exemption
from wyrm.kernels import KERNELS

__all__ = ["problem"]

#: The dtypes of real numbers that there are.
DTYPES = ("float32", "float64")
#: The ways in which a backend lets several threads train.
SCHEDULES = ("hogwild", "synchronized")


def problem(declaration: Declaration) -> str:
    """What was expected of the first field that is not as it should be, and what it is; empty if all are."""
    for name, expected, fits in _FIELDS:
        given = getattr(declaration, name)
        if not fits(given):
            return f"expected {name} to be {expected}, got {given!r}"
    return _problem_of_capabilities(declaration.capabilities)


def _problem_of_capabilities(capabilities: Capabilities) -> str:
    optional = sorted(name for name, kernel in KERNELS.items() if kernel.optional)
    for name, known in (("dtypes", DTYPES), ("kernels", optional), ("schedules", SCHEDULES)):
        given = getattr(capabilities, name)
        if not isinstance(given, Set) or not all(isinstance(word, str) for word in given):
            return f"expected {name} of its capabilities to be a frozenset of names, got {given!r}"
        unknown = sorted(set(given).difference(known))
        if unknown and name == "kernels" and unknown[0] in KERNELS:
            return f"expected kernels of its capabilities to be optional ones; {unknown[0]!r} is required, and not declared"
        if unknown:
            return f"expected {name} of its capabilities to be among {', '.join(known)}, got {unknown[0]!r}"
    if not isinstance(capabilities.releases_gil, bool):
        return f"expected releases_gil of its capabilities to be True or False, got {capabilities.releases_gil!r}"
    return ""


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value.split() == [value]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value)) and value[0] <= value[1]


def _is_environment(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_variants(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and _is_environment(of) for name, of in value.items())


def _is_exemption(value: Any) -> bool:
    factor = value.factor if isinstance(value, Exemption) else "none"
    return factor is None or (isinstance(factor, (int, float)) and factor > 0)


def _is_exemptions(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and _is_exemption(of) for name, of in value.items())


#: Fields, what is expected of them, and whether it is so.
_FIELDS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("name", "a name without blanks", _is_name),
    ("load", "a function", callable),
    ("contract", "the first and the last version, two whole numbers in a tuple", _is_range),
    ("version", "a string", lambda value: isinstance(value, str)),
    ("priority", "a whole number", _is_whole),
    ("capabilities", "wyrm.backend.Capabilities", lambda value: isinstance(value, Capabilities)),
    ("variants", "a mapping from names to environments, which map names to strings", _is_variants),
    ("exemptions", "a mapping from checks to wyrm.backend.Exemption, of a factor above 0 or None", _is_exemptions),
)
