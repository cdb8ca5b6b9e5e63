"""Fixtures: every backend takes the same tests; random numbers come from a seed that is printed."""

import os
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

import wyrm
from wyrm import plugins, selection, sound
from wyrm.hookspecs import hookimpl
from wyrm.native import NativeBackend


def _looked_at(program):
    """Programs of the frontend are trusted; here each of them is looked at, as anybody else's is."""
    sound.require_sound(program)
    return program


sound.trusted = _looked_at

SEED = int(os.environ.get("WYRM_TEST_SEED", "20260101"))
BACKENDS = [status.name for status in wyrm.backends() if status.state != "broken"]


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="the default backend alone, without what is marked as slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "variants: run on each variant of a backend as well (instruction sets and the like)")
    config.addinivalue_line("markers", "slow: left out by --quick, as it takes a second or more")


def pytest_collection_modifyitems(config, items):
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_report_header():
    return f"seed {SEED} (WYRM_TEST_SEED), backends: {', '.join(BACKENDS)}; variants: {', '.join(VARIANTS) or 'none'}"


def _variants():
    """The variants of backends that work on this machine, as plugins of their own, by name."""
    found = {}
    for name in BACKENDS:
        declaration = plugins._get_registry().find(name).declaration
        for variant, environment in declaration.variants.items():
            if environment:
                plugin = _variant(declaration, f"{name}:{variant}", environment)
                if plugin is not None:
                    found[f"{name}:{variant}"] = plugin
    return found


def _variant(declaration, name, environment):
    def load():
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            return declaration.load()

    module = ModuleType(name)
    module.wyrm_backend = hookimpl(lambda: replace(declaration, name=name, load=load, priority=-1))
    registry = plugins._get_registry()
    plugins.register(module, name)
    plugin = registry.plugins.pop()
    try:
        registry.load(plugin)
    except wyrm.BackendError:  # not on this machine, says the backend
        return None
    return plugin


VARIANTS = {name: plugin for name, plugin in _variants().items() if "cold" not in name}


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        quick = metafunc.config.getoption("quick")
        names = BACKENDS[:1] if quick else list(BACKENDS)
        if metafunc.definition.get_closest_marker("variants") and not quick:
            names += VARIANTS
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request):
    """Each installed backend, as the default; with the mark ``variants``, each of its variants too."""
    registry = plugins._get_registry()
    variant = VARIANTS.get(request.param)
    if variant is not None:
        registry.plugins.append(variant)
    with wyrm.use_backend(request.param):
        yield request.param
    if variant is not None:
        registry.plugins.remove(variant)


def is_native():
    """Whether the default backend's loops leave Python; in others a step takes a hundred microseconds, and tests make fewer."""
    return isinstance(wyrm.get_backend(), NativeBackend)


@pytest.fixture
def rng(request):
    """A generator of its own for each test, from the seed that the header shows."""
    return np.random.default_rng([SEED, *request.node.nodeid.encode()])


@pytest.fixture(autouse=True)
def _no_choice_left_behind(monkeypatch):
    """Tests begin without a chosen backend, and leave none."""
    monkeypatch.delenv(selection.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(selection, "_process", [])


@pytest.fixture
def registry():
    """The plugin registry, put back as it was."""
    found = plugins._get_registry()
    before, found.preferred = list(found.plugins), None
    yield found
    for plugin in found.plugins:
        if plugin not in before and plugin.module in found.manager.get_plugins():
            found.manager.unregister(plugin.module)
    found.plugins[:], found.preferred = before, None
