"""Plugins: which backends are installed, found through pluggy, each kept from breaking the others.

Packages name their plugin modules as entry points in the group ``wyrm``. Every entry point is imported, and every hook
called, on its own (:mod:`wyrm.isolation`): one that fails, exits or hangs is listed as broken, with its cause and what to do,
and the rest work.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import pluggy

from wyrm import hookspecs
from wyrm.backend import CONTRACT_VERSION, Backend, Capabilities, Declaration
from wyrm.declared import problem
from wyrm.entry_points import installed_entry_points
from wyrm.errors import BackendError, UnknownBackendError
from wyrm.isolation import PluginError, imported_whole, isolated, quietly

__all__ = ["BackendStatus", "backends", "check", "declaration", "load", "preferred", "register", "unregister"]

#: Seconds that a backend has for loading and one training step when it is checked.
CHECK_SECONDS = 120.0
#: Seconds that a plugin has for being imported, and for its hook: both should take milliseconds.
DECLARE_SECONDS = 30.0
#: The distribution that Wyrm itself is.
_OWN = "wyrm-autodiff"


@dataclass
class BackendStatus:
    """One backend as it is listed.

    Attributes
    ----------
    name
        By which it is chosen; the entry point's name if the plugin could not say.
    state
        ``declared``: known, not loaded yet. ``loaded``. ``broken``: see ``cause`` and ``remedy``. ``working``: checked.
    distribution
        The package that brings it, with its version.
    cause, remedy
        Of a broken one: what is wrong, and what to do. The remedy is empty if the cause says that as well.
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
    """A plugin and what became of it.

    Attributes
    ----------
    path
        Where its metadata are, if no distribution could be read from them.
    """

    def __init__(self, name: str, distribution: str, path: str = "") -> None:
        self.status = BackendStatus(name, "broken", distribution)
        self.path = path
        self.declaration: Declaration | None = None
        self.backend: Backend | None = None
        self.error: BaseException | None = None
        self.module: Any = None

    @property
    def package(self) -> str:
        """The name of its distribution; empty if that is not known."""
        return self.status.distribution.split(" ")[0]

    @property
    def label(self) -> str:
        """What messages call it: its distribution, else where it is, else its name."""
        return self.status.distribution or self.path or self.status.name

    def broken(self, cause: str, remedy: str, error: BaseException | None = None) -> None:
        self.status.state, self.status.cause, self.status.remedy, self.error = "broken", cause, remedy, error

    def failure(self) -> BackendError:
        """What to raise if somebody asks for it all the same."""
        what = "; ".join(filter(None, (self.status.cause, self.status.remedy)))
        failure = BackendError(f"backend {self.status.name!r} is broken: {what}")
        failure.__cause__ = self.error
        return failure

    def declared(self, declaration: Declaration) -> None:
        self.declaration = declaration
        self.status.name = declaration.name
        self.status.state = "declared"
        self.status.version = declaration.version
        self.status.priority = declaration.priority
        self.status.capabilities = declaration.capabilities

    def loaded(self) -> None:
        self.status.state, self.status.cause, self.status.remedy, self.error = "loaded", "", "", None


class _Registry:
    """All plugins, found once."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(hookspecs.ENTRY_POINT_GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[_Plugin] = []
        self.lock = threading.RLock()
        #: The backend that is taken when nothing is said; ``None``: it has to be found out.
        self.preferred: Backend | None = None

    def discover(self) -> None:
        points, unreadable = installed_entry_points(hookspecs.ENTRY_POINT_GROUP)
        for name, path, error in unreadable:
            plugin = _Plugin(name, "")
            plugin.broken(
                f"the metadata of the package at {path} cannot be read: {described(error)}", _no_metadata(path), error
            )
            self.plugins.append(plugin)
        for point in sorted(points, key=lambda point: point.distribution.split()[:1] != [_OWN]):  # no other takes our names
            plugin = _Plugin(point.name, point.distribution, point.path)
            self.plugins.append(plugin)
            try:
                module = isolated(point.load, DECLARE_SECONDS)
            except Exception as error:
                plugin.broken(f"importing {point.value} failed: {described(error)}", _mend(plugin, error), error)
                continue
            self.add(plugin, module)

    def add(self, plugin: _Plugin, module: Any) -> None:
        """Register a module with pluggy and read its declaration."""
        plugin.module = module
        try:
            self.manager.register(module)
            others = [other for other in self.manager.get_plugins() if other is not module]
            hook = self.manager.subset_hook_caller("wyrm_backend", remove_plugins=others)
            declarations = isolated(hook, DECLARE_SECONDS)
        except Exception as error:
            plugin.broken(f"calling its wyrm_backend hook failed: {described(error)}", _replace(plugin), error)
            return
        if len(declarations) != 1 or not isinstance(declarations[0], Declaration):
            what = type(declarations[0]).__name__ if declarations else "nothing"
            plugin.broken(f"its wyrm_backend hook returned {what}, not a wyrm.backend.Declaration", _replace(plugin))
            return
        self._examine(plugin, declarations[0])

    def _examine(self, plugin: _Plugin, declaration: Declaration) -> None:
        try:
            wrong = problem(declaration)
        except Exception as error:  # fields that cannot even be read
            wrong = described(error)
        if wrong:
            plugin.broken(f"the declaration of {plugin.label} is not valid: {wrong}", _replace(plugin))
            return
        first, last = declaration.contract
        taken = next((p for p in self.plugins if p.declaration is not None and p.status.name == declaration.name), None)
        if taken is not None:
            plugin.broken(
                f"the name {declaration.name!r} is already taken by {taken.label}",
                f"uninstall one of {taken.label} and {plugin.label}",
            )
        elif not first <= CONTRACT_VERSION <= last:
            older = last < CONTRACT_VERSION
            plugin.broken(
                f"it is built for backend contract {first} to {last}; this Wyrm has {CONTRACT_VERSION}",
                f"upgrade {plugin.label if older else _OWN}",
            )
        else:
            plugin.declared(declaration)

    def find(self, name: str) -> _Plugin:
        for plugin in self.plugins:
            if plugin.status.name == name and plugin.declaration is not None:
                return plugin
        for plugin in self.plugins:
            if plugin.status.name == name:
                raise plugin.failure()
        known = ", ".join(sorted(repr(p.status.name) for p in self.plugins if p.declaration is not None))
        raise UnknownBackendError(
            f"there is no backend {name!r}; installed are {known}. `python -m wyrm backends` shows their state"
        )

    def load(self, plugin: _Plugin) -> Backend:
        """The backend of a plugin, which is loaded once; what failed is tried again, as memory may have been short."""
        with self.lock:
            if plugin.backend is not None:
                return plugin.backend
            declaration = plugin.declaration
            if declaration is None:
                raise plugin.failure()
            try:
                with imported_whole():
                    backend = quietly(declaration.load)
                if not isinstance(backend, Backend):
                    raise TypeError(f"load() returned {type(backend).__name__}, not a wyrm.backend.Backend")
                backend.examine()
            except BackendError as error:  # it says itself what to do
                plugin.broken(str(error), "", error)
            except Exception as error:
                plugin.broken(f"loading it failed: {described(error)}", _mend(plugin, error), error)
            else:
                backend.declaration = declaration
                plugin.backend = backend
                plugin.loaded()
                self.preferred = None  # it may have been broken before
                return backend
            raise plugin.failure()


def described(error: BaseException) -> str:
    """An error in one line."""
    text = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _no_metadata(path: str) -> str:
    return f"remove {path}, or install its package again"


def _mend(plugin: _Plugin, error: BaseException) -> str:
    """What to do about an error that a damaged or incomplete installation may have caused."""
    if isinstance(error, PluginError):
        return _replace(plugin)
    if isinstance(error, MemoryError):
        return "free some memory and try again"
    if not plugin.package:
        return _replace(plugin)
    return f"reinstall it: pip install --force-reinstall {plugin.package}"


def _replace(plugin: _Plugin) -> str:
    """What to do about an error of the plugin's own."""
    if plugin.package:
        return f"upgrade it, or uninstall it: pip uninstall {plugin.package}"
    return _no_metadata(plugin.path) if plugin.path else "mend the plugin"


_registry: _Registry | None = None
_registry_lock = threading.Lock()


def _get_registry() -> _Registry:
    global _registry
    if _registry is not None:  # and everything has been found
        return _registry
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
    return [plugin.status for plugin in _by_priority()]


def _by_priority() -> list[_Plugin]:
    return sorted(_get_registry().plugins, key=_rank)


def _rank(plugin: _Plugin) -> tuple[bool, int, str]:
    status = plugin.status
    return status.state == "broken", -status.priority, status.name


def preferred() -> Backend:
    """The backend of the highest priority that works, loaded.

    Raises
    ------
    BackendError
        If none does.
    """
    registry = _get_registry()
    if registry.preferred is not None:
        return registry.preferred
    for plugin in _by_priority():
        if plugin.status.state != "broken":
            try:
                backend = registry.load(plugin)
                registry.preferred = backend
                return backend
            except BackendError as error:
                warnings.warn(f"{error}. The next backend by priority is used instead", RuntimeWarning, stacklevel=4)
    raise BackendError("no backend works; `python -m wyrm backends` says why")


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
        registry.preferred = None
        return plugin.status


def unregister(name: str) -> None:
    """Forget the plugins of that name, as if they were not installed."""
    registry = _get_registry()
    with registry.lock:
        registry.plugins[:] = [plugin for plugin in registry.plugins if plugin.status.name != name]
        registry.preferred = None


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
