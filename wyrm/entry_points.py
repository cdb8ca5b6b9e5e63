"""The entry points of installed packages, read so that one package with damaged metadata does not hide the others."""

from __future__ import annotations

from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, NamedTuple

__all__ = ["InstalledEntryPoint", "UnreadablePackage", "installed_entry_points"]


class InstalledEntryPoint(NamedTuple):
    """An entry point and the package that it belongs to.

    Attributes
    ----------
    point
        What is installed.
    distribution
        The package's name and version; empty if its metadata lack the name.
    path
        Where its metadata are; empty if that is not known.
    """

    point: EntryPoint
    distribution: str
    path: str

    @property
    def name(self) -> str:
        """The name of the entry point."""
        return self.point.name

    @property
    def value(self) -> str:
        """What it imports, as the package says."""
        return self.point.value

    def load(self) -> Any:
        """Import it."""
        return self.point.load()


class UnreadablePackage(NamedTuple):
    """A package whose entry points cannot be read: its name as far as it is known, where it is, and the error."""

    name: str
    path: str
    error: Exception


def installed_entry_points(group: str) -> tuple[list[InstalledEntryPoint], list[UnreadablePackage]]:
    """The entry points of a group, by name, and the packages that could not be asked.

    Of several installations of a package, the one that Python would import counts.
    """
    found: list[InstalledEntryPoint] = []
    unreadable: list[UnreadablePackage] = []
    seen: set[str] = set()
    for distribution in distributions():
        path = str(getattr(distribution, "_path", ""))
        folder_name = path.replace("\\", "/").rpartition("/")[2].partition("-")[0].lower()
        if folder_name in seen:
            continue
        seen.add(folder_name)
        try:
            text = distribution.read_text("entry_points.txt") or ""
            points = [point for point in distribution.entry_points if point.group == group] if group in text else []
        except Exception as error:
            unreadable.append(UnreadablePackage(folder_name, path, error))
            continue
        if points:
            name, version = _field(distribution, "Name"), _field(distribution, "Version") or "?"
            label = f"{name} {version}" if name else ""
            found += [InstalledEntryPoint(point, label, path) for point in points]
    return sorted(found, key=lambda entry: entry.name), unreadable


def _field(distribution: Distribution, field: str) -> str:
    """A field of the metadata; empty if they lack it or cannot be read."""
    try:
        metadata = distribution.metadata
        return str(metadata[field]) if field in metadata else ""
    except Exception:  # whatever a damaged file makes the parser raise: the package is listed by what else is known
        return ""
