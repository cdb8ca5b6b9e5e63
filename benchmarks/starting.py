"""How long it takes to get going: importing Wyrm, and the first step of each workload, in processes that have just begun.

One process that knows NumPy and the data, and nothing of Wyrm, forks for each figure. What backends keep on the disk goes to a
folder of its own for each workload, where the first process finds only what loading the backend leaves, and the next ones what
that process has left.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from time import process_time

from benchmarks import data, interactions
from benchmarks.fresh import run_fresh
from benchmarks.results import Start
from benchmarks.workloads import WORKLOADS

__all__ = ["WAYS", "measure_starts"]

WAYS = ("fit", "from Python")
#: How often each figure is taken.
_TIMES = 3
#: Driven from Python, too.
_DRIVEN = ("w1", "w2", "w3", "w4")
#: So many examples of W4 have all lengths that there are.
_EXAMPLES = 200


def measure_starts(keys: Sequence[str], backends: Sequence[str]) -> list[Start]:
    """For workloads, on backends; and for ``import wyrm``, after NumPy."""
    return [Start(**found) for found in run_fresh(__name__, " ".join(keys), " ".join(backends), seconds=1800.0)]


def _measure(keys: Sequence[str], backends: Sequence[str]) -> None:
    _prepare(keys)
    _print(Start("", "import", "", _times(_import, "")))
    for backend in backends:
        with tempfile.TemporaryDirectory() as folder:
            loaded = os.path.join(folder, "loaded")
            os.mkdir(loaded)
            _print(Start(backend, "import", "", _times(_load, loaded, backend)))
            for key in keys:
                for way in WAYS:
                    if way == "fit" or key in _DRIVEN:
                        cache = os.path.join(folder, f"{key} {way}")
                        shutil.copytree(loaded, cache)  # what loading leaves is there, and nothing of the workload
                        _print(Start(backend, key, way, _times(_FIRST[way], cache, key, backend)))


def _prepare(keys: Sequence[str]) -> None:
    """The data of all workloads, which forked processes have then."""
    for key, make in (("w5-large", data.large_factorization), ("w6", data.skip_gram), ("w7", data.bags), ("w8", data.batches)):
        if key in keys:
            make()
    data.first()
    interactions.interactions()


def _print(start: Start) -> None:
    print(json.dumps(vars(start)), flush=True)


def _times(measure: Callable[..., float], cache: str, *arguments: str) -> list[float]:
    return [_forked(measure, cache, *arguments) for _ in range(_TIMES)]


def _forked(measure: Callable[..., float], cache: str, *arguments: str) -> float:
    """What a function returns in a process of its own."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        os.environ["XDG_CACHE_HOME"] = cache
        try:
            os.write(writing, repr(measure(*arguments)).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(process, 0)
    return float(found or "nan")


def _import() -> float:
    began = process_time()
    import wyrm  # noqa: F401

    return process_time() - began


def _load(backend: str) -> float:
    import wyrm

    began = process_time()
    wyrm.get_backend(backend)
    return process_time() - began


def _by_fit(key: str, backend: str) -> float:
    import wyrm
    from benchmarks.by_fit import Fit
    from benchmarks.models import MODELS
    from benchmarks.recommenders import RECOMMENDERS, Recommend

    wyrm.get_backend(backend)
    workload = WORKLOADS[key]
    if key in RECOMMENDERS:
        recommender = Recommend(workload, backend)
        began = process_time()
        recommender.trace()
    else:
        fit = Fit(workload, backend, MODELS[key])
        began = process_time()
        fit.run(0, _EXAMPLES if workload.unit == "token" else 1)
    return process_time() - began


def _from_python(key: str, backend: str) -> float:
    import wyrm
    from benchmarks.from_python import Rebuilt, first_step
    from benchmarks.models import MODELS

    wyrm.get_backend(backend)
    if key == "w4":
        rebuilt = Rebuilt(WORKLOADS[key], backend)
        began = process_time()
        rebuilt.run(0, 1)
    else:
        model = MODELS[key]()
        began = process_time()
        first_step(model, backend)
    return process_time() - began


_FIRST = {"fit": _by_fit, "from Python": _from_python}


if __name__ == "__main__":
    _measure(*(argument.split() for argument in sys.argv[1:]))
