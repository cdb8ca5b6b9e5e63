"""What ``pytest --pyargs wyrm_conformance --wyrm-backend NAME`` collects: one test for each check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wyrm_conformance.check import Check
from wyrm_conformance.context import as_text
from wyrm_conformance.pytest_plugin import seed
from wyrm_conformance.worker import Worker


@pytest.fixture(scope="session")
def wyrm_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The backend that the command line names, in a process that may crash."""
    name = request.config.getoption("--wyrm-backend")
    if name is None:
        pytest.fail("say which backend to check: --wyrm-backend NAME", pytrace=False)
    with Worker(name, seed(request.config)) as worker:
        yield worker


def test_check(wyrm_check: Check, wyrm_worker: Worker, request: pytest.FixtureRequest) -> None:
    """The check passes, or fails as the backend's declaration says."""
    number = seed(request.config)
    result = wyrm_worker.run(wyrm_check)
    if result.outcome == "expected failure":
        pytest.xfail(result.reason)
    if not result.passed:
        name = request.config.getoption("--wyrm-backend")
        replay = f'python -m wyrm_conformance --backend {name} --select "{wyrm_check.name}" --seed {number}'
        lines = [result.failure, *as_text(result.details), f"it protects: {wyrm_check.protects}", f"repeat with: {replay}"]
        pytest.fail("\n".join(lines), pytrace=False)
