"""Plugins: which backends are installed, found through pluggy, each kept from breaking the others.

Packages name their plugin modules as entry points in the group ``wyrm``. Every entry point is imported, and every hook
called, on its own: one that fails is listed as broken, with its cause and what to do, and the rest work.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal

import pluggy

from wyrm import hookspecs
from wyrm.backend import CONTRACT_VERSION, Backend, Capabilities, Declaration
from wyrm.errors import BackendError, UnknownBackendError

__all__ = ["BackendStatus", "backends", "check", "declaration", "load", "register", "unregister"]

#: Seconds that a backend has for loading and one training step when it is checked.
CHECK_SECONDS = 120.0


@dataclass
class BackendStatus:
    """One backend as it is listed.

    Attributes
    ----------
    name
        By which it is chosen; the entry point's name where the plugin could not say.
    state
        ``declared``: known, not loaded yet. ``loaded``. ``broken``: see ``cause`` and ``remedy``. ``working``: checked.
    distribution
        The package that brings it, with its version.
    """

    name: str
    state: Literal["declared", "loaded", "broken", "working"]
    distribution: str = ""
    version: str = ""
    priority: int = 0
    capabilities: Capabilities | None = None
    cause: str = ""
    remedy: str = ""


class _Plugin:
    """A plugin and what became of it."""

    def __init__(self, name: str, distribution: str) -> None:
        self.status = BackendStatus(name, "broken", distribution)
        self.declaration: Declaration | None = None
        self.backend: Backend | None = None
        self.error: BaseException | None = None
        self.module: Any = None

    def broken(self, cause: str, remedy: str, error: BaseException | None = None) -> None:
        self.status.state, self.status.cause, self.status.remedy, self.error = "broken", cause, remedy, error

    def declared(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.status.name = declaration.name
        self.status.state = "declared"
        self.status.version = declaration.version
        self.status.priority = declaration.priority
        self.status.capabilities = declaration.capabilities


class _Registry:
    """All plugins, found once."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.ENTRY_POINT_GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[_Plugin] = []
        self.lock = threading.RLock()

    def discover(self) -> None:
        for point in sorted(entry_points(group=hookspecs.ENTRY_POINT_GROUP), key=lambda point: point.name):
            plugin = _Plugin(point.name, _distribution(point))
            self.plugins.append(plugin)
            try:
                module = point.load()
            except Exception as error:
                cause = f"importing {point.value} failed: {type(error).__name__}: {error}"
                plugin.broken(cause, _reinstall(plugin), error)
                continue
            self.add(plugin, module)

    def add(self, plugin: _Plugin, module: Any) -> None:
        """Register a module with pluggy and read its declaration."""
        plugin.module = module
        try:
            self.manager.register(module)
            others = [other for other in self.manager.get_plugins() if other is not module]
            declarations = self.manager.subset_hook_caller("wyrm_backend", remove_plugins=others)()
        except Exception as error:
            plugin.broken(f"its wyrm_backend hook raised {type(error).__name__}: {error}", _reinstall(plugin), error)
            return
        if len(declarations) != 1 or not isinstance(declarations[0], Declaration):
            what = type(declarations[0]).__name__ if declarations else "nothing"
            plugin.broken(f"its wyrm_backend hook returned {what}, not a wyrm.backend.Declaration", _reinstall(plugin))
            return
        self._examine(plugin, declarations[0])

    def _examine(self, plugin: _Plugin, declaration: Declaration) -> None:
        taken = next((p for p in self.plugins if p.declaration is not None and p.status.name == declaration.name), None)
        first, last = declaration.contract
        if taken is not None:
            plugin.broken(
                f"the name {declaration.name!r} is already taken by {taken.status.distribution}",
                f"uninstall one of {taken.status.distribution} and {plugin.status.distribution}",
            )
        elif not first <= CONTRACT_VERSION <= last:
            older = last < CONTRACT_VERSION
            plugin.broken(
                f"it is built for backend contract {first} to {last}; this Wyrm has {CONTRACT_VERSION}",
                f"upgrade {plugin.status.distribution or plugin.status.name if older else 'wyrm-autodiff'}",
            )
        else:
            plugin.declared(declaration)

    def find(self, name: str) -> _Plugin:
        for plugin in self.plugins:
            if plugin.status.name == name and plugin.declaration is not None:
                return plugin
        for plugin in self.plugins:
            if plugin.status.name == name:
                raise BackendError(
                    f"backend {name!r} is broken: {plugin.status.cause}; {plugin.status.remedy}"
                ) from plugin.error
        known = ", ".join(sorted(repr(p.status.name) for p in self.plugins if p.declaration is not None))
        raise UnknownBackendError(
            f"there is no backend {name!r}; installed are {known}. `python -m wyrm backends` shows their state"
        )

    def load(self, plugin: _Plugin) -> Backend:
        with self.lock:
            if plugin.backend is not None:
                return plugin.backend
            declaration = plugin.declaration
            if declaration is not None and plugin.status.state != "broken":
                try:
                    backend = declaration.load()
                    if not isinstance(backend, Backend):
                        raise TypeError(f"load() returned {type(backend).__name__}, not a wyrm.backend.Backend")
                except Exception as error:
                    plugin.broken(f"loading it raised {type(error).__name__}: {error}", _reinstall(plugin), error)
                else:
                    backend.declaration = declaration
                    plugin.backend = backend
                    plugin.status.state = "loaded"
                    return backend
            message = f"backend {plugin.status.name!r} is broken: {plugin.status.cause}; {plugin.status.remedy}"
            raise BackendError(message) from plugin.error


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else ""


def _reinstall(plugin: _Plugin) -> str:
    package = plugin.status.distribution.split(" ")[0]
    return f"reinstall it: pip install --force-reinstall {package}" if package else "mend the plugin"


_registry: _Registry | None = None
_registry_lock = threading.Lock()


def _get_registry() -> _Registry:
    global _registry
    with _registry_lock:
        if _registry is None:
            registry = _Registry()
            registry.discover()
            _registry = registry
        return _registry


def backends() -> list[BackendStatus]:
    """The installed backends, the highest priority first, with their state. Loads none of them.

    Examples
    --------
    >>> import wyrm
    >>> "reference" in [backend.name for backend in wyrm.backends()]
    True
    """
    statuses = [plugin.status for plugin in _get_registry().plugins]
    return sorted(statuses, key=lambda status: (status.state == "broken", -status.priority, status.name))


def declaration(name: str) -> Declaration:
    """What the plugin of a backend says of it; loads nothing. Raises as :func:`load` does."""
    found = _get_registry().find(name).declaration
    assert found is not None
    return found


def load(name: str) -> Backend:
    """The backend of that name, loaded.

    Raises
    ------
    UnknownBackendError
        Where there is none, naming those that there are.
    BackendError
        Where it is broken, with the cause and what to do.
    """
    registry = _get_registry()
    return registry.load(registry.find(name))


def register(module: ModuleType | object, name: str = "") -> BackendStatus:
    """Add a plugin that no package declares: a module or object with a ``wyrm_backend`` hook."""
    registry = _get_registry()
    with registry.lock:
        plugin = _Plugin(name or getattr(module, "__name__", type(module).__name__), "")
        registry.plugins.append(plugin)
        registry.add(plugin, module)
        return plugin.status


def unregister(name: str) -> None:
    """Forget the plugins of that name, as if they were not installed."""
    registry = _get_registry()
    with registry.lock:
        registry.plugins[:] = [plugin for plugin in registry.plugins if plugin.status.name != name]


def check(status: BackendStatus, seconds: float = CHECK_SECONDS) -> BackendStatus:
    """Load a backend in a process of its own and let it train for a step: ``working``, or ``broken`` with the cause."""
    if status.state == "broken":
        return status
    result = BackendStatus(**vars(status))
    command = [sys.executable, "-m", "wyrm", "try", status.name]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        result.state, result.cause = "broken", f"loading it and training for a step took more than {seconds:g} s"
        result.remedy = f"run `{' '.join(command[1:])}` to see where it hangs"
        return result
    if process.returncode == 0:
        result.state = "working"
    else:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        result.state, result.cause = "broken", lines[-1]
        result.remedy = f"`python -m wyrm try {status.name}` shows the whole error"
    return result
