"""The checks as tests of pytest: ``pytest --pyargs wyrm_conformance --wyrm-backend NAME``.

Each check is a test of its own, selected with ``--wyrm-level`` and pytest's ``-k``, with pytest's reports. Light, as pytest
loads it wherever the package is installed.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest

__all__ = ["pytest_addoption", "pytest_generate_tests", "pytest_report_header"]

_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suite."""
    group = parser.getgroup("wyrm", "conformance of Wyrm backends")
    group.addoption("--wyrm-backend", metavar="NAME", help="check this backend: its name, or module:object")
    group.addoption("--wyrm-level", metavar="LEVEL", help="run the checks up to this level (default: all)")
    group.addoption("--wyrm-seed", type=int, metavar="N", help="of all random numbers (default: a new one)")


def pytest_report_header(config: pytest.Config) -> str | None:
    """The seed, without which a failure could not be repeated."""
    if config.getoption("--wyrm-backend") is None:
        return None
    return f"wyrm conformance: backend {config.getoption('--wyrm-backend')}, seed {seed(config)}"


def seed(config: pytest.Config) -> int:
    """Of this run; the same in all processes of pytest-xdist."""
    if _SEED not in config.stash:
        given = config.getoption("--wyrm-seed")
        worker: dict[str, Any] = getattr(config, "workerinput", {})
        run = worker.get("testrunuid")
        drawn = int(run[:7], 16) if run else secrets.randbelow(2**28)
        config.stash[_SEED] = drawn if given is None else given
    return config.stash[_SEED]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each check."""
    if "wyrm_check" not in metafunc.fixturenames:
        return
    from wyrm_conformance.check import LEVELS
    from wyrm_conformance.runner import select

    level = metafunc.config.getoption("--wyrm-level") or LEVELS[-1]
    if level not in LEVELS:
        raise pytest.UsageError(f"--wyrm-level: expected one of {', '.join(LEVELS)}, got {level!r}")
    checks = select(level)
    metafunc.parametrize("wyrm_check", checks, ids=[check.name for check in checks])
