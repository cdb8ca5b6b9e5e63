"""Mutants of the real backends' kernels: does the conformance suite notice a wrong operator, constant, bound or index?

    nice python tests/mutate_kernels.py c_simd --mutants 100 --seed 1
    nice python tests/mutate_kernels.py numba --mutants 50

Each mutant changes one token of one kernel source, in a copy of the package; of the C backend, what the change reaches in one
instruction set is compiled anew. The checks are run in a process of the mutant's own, forked from one that has everything else
loaded, up to the first that fails: those that killed mutants of the same source before, then those that use the kernels at
hand and little else. A crash or a hang kills, too. What survives is printed in the end: each wants a new check, or is
equivalent, and then a place in ``equivalent_mutants.json``, with the reason: what stands there is not made. Not part of the
tests: some seconds for each mutant.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from wyrm_conformance.check import CHECKS
from wyrm_conformance.faults import forget
from wyrm_conformance.runner import run_one, select

import wyrm
from wyrm.backend import Executable
from wyrm.kernels import KERNELS
from wyrm.program import Program

ROOT = Path(__file__).parent.parent
#: Why mutants are equivalent to the source, by file, line before and line after.
EQUIVALENT = {
    (entry["file"], entry["before"], entry["after"]): entry["why"]
    for entry in json.loads((Path(__file__).parent / "equivalent_mutants.json").read_text())
}
#: What becomes of a token; one of the choices is taken.
SWAPS = {
    "+": ["-"],
    "-": ["+"],
    "*": ["+"],
    "/": ["*"],
    "<": ["<=", ">"],
    ">": [">=", "<"],
    "<=": ["<"],
    ">=": [">"],
    "==": ["!="],
    "!=": ["=="],
    "&&": ["||"],
    "||": ["&&"],
    "+=": ["-=", "="],
    "-=": ["+="],
    "and": ["or"],
    "or": ["and"],
}
TOKEN = re.compile(
    r"(?<=\s)(?:[+\-*/]=?|[<>]=?|==|!=|&&|\|\||and|or)(?=\s)|(?<![\w.])\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])|(?<=\[)\w+(?=\])"
)
#: An array's element that there is not ends the process.
BOUNDS = ["-fsanitize=bounds-strict", "-fsanitize-undefined-trap-on-error"]
#: How long a check may take, and how many times as much of a processor it may use as on the backend as it is.
SECONDS, TIMES = 400, 4
#: Where a source has a kernel.
KERNEL = re.compile(r"(?:def |\bkernel_)(\w+)")


class Use(NamedTuple):
    """Seconds of a processor that a check takes on the backend as it is, and the kernels that its programs have."""

    seconds: float
    kernels: frozenset[str]


class Mutant:
    """One token changed."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        before = path.read_text()
        start, stop = rng.choice(places(path, before))
        token = before[start:stop]
        if token in SWAPS:
            new = rng.choice(SWAPS[token])
        elif token[0].isdigit():
            new = str(float(token) * 1.25 or 1.25) if "." in token else str(int(token) + rng.choice([-1, 1]))
        else:
            new = f"{token} + 1"
        self.text = before[:start] + new + before[stop:]
        #: The kernels of the source, and the last of them before the token.
        self.kernels = set(KERNEL.findall(before)) & set(KERNELS)
        self.kernel = ([""] + [name for name in KERNEL.findall(before[:start]) if name in KERNELS])[-1]
        line = before[:start].count("\n")
        self.change = tuple(text.splitlines()[line].strip() for text in (before, self.text))
        self.difference = "{}:{}\n    - {}\n    + {}".format(self.path.relative_to(ROOT), line + 1, *self.change)

    @property
    def equivalent(self) -> str:
        """Why it makes no difference, where that is known."""
        return EQUIVALENT.get((self.path.name, *self.change), "")


def places(path: Path, text: str) -> list[tuple[int, int]]:
    """Where a source has tokens that can be changed, comments, strings and directives left out."""
    in_c = path.suffix != ".py"
    comments = r"//[^\n]*|/\*.*?\*/|^#[^\n]*" if in_c else r'"""(?:.|\n)*?"""|#[^\n]*|^(?:from|import|def|@)[^\n]*'
    lengths = r"^ *(?:static |const )*\w+ \**\w+(?:\[\w+\])+"  # of arrays where they are declared; longer ones do no harm
    for pattern in (comments, r'"[^"\n]*"', *([lengths] if in_c else [])):
        text = re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match.group()), text, flags=re.MULTILINE)
    return [match.span() for match in TOKEN.finditer(text)]


class CBackend:
    """The kernels for one instruction set, rebuilt where a change reaches them; everything else is compiled once."""

    name, package = "c_simd", "wyrm_c_simd"
    more = 10.0  # seconds of a processor, besides, for each check
    sets = {
        "avx2": ["-mavx2", "-mfma"],
        "portable": [],
        "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
    }

    def __init__(self, folder: Path, sets: list[str]) -> None:
        self.folder = folder
        source = ROOT / "backends" / "c_simd_backend"
        self.csrc = shutil.copytree(source / "csrc", folder / "csrc")
        self.library = shutil.copytree(source / "wyrm_c_simd", folder / "wyrm_c_simd") / "_native.abi3.so"
        declarations = [str(self.csrc / f"_native.{kind}.h") for kind in ("cdef", "includes")]
        command = [sys.executable, "-m", "cffi.gen_src", "read-sources", "wyrm_c_simd._native", *declarations]
        subprocess.run([*command, str(self.csrc / "_native.c")], capture_output=True, check=True)
        self.sources = sorted((source / "csrc" / "kernels").glob("*.*"))
        self.environment = dict[str, str]()
        self.sets = {name: self.sets[name] for name in sets or self.sets}
        options = ["-DPy_LIMITED_API=0x030a0000", "-I" + sysconfig.get_path("include")]
        self.objects = {file.stem: self._compile(file, file.stem, options) for file in sorted(self.csrc.glob("*.c"))}
        self.preprocessed = {}
        for name in CBackend.sets:
            for kind in ("float", "double"):
                self.preprocessed[name, kind] = self._preprocessed(name, kind)
                self.objects[f"{name}_{kind}"] = self._kernels(name, kind, f"{name}_{kind}")
        passes = self.objects.pop("passes")  # a module of its own, in which there is no kernel
        assert passes and all(self.objects.values()), "the sources do not compile as they are"
        subprocess.run(["cc", "-shared", "-o", self.library.with_name("_passes.abi3.so"), passes], check=True)

    def _options(self, name: str, kind: str) -> list[str]:
        flags = [*CBackend.sets[name], "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", *BOUNDS]
        return [*flags, f"-DWYRM_KERNELS=wyrm_{name}_{kind}", *(["-DWYRM_DOUBLE"] if kind == "double" else [])]

    def _preprocessed(self, name: str, kind: str) -> str:
        """What the compiler gets to see, in the end."""
        command = ["cc", "-std=gnu11", "-E", "-P", "-DWYRM_X86", *self._options(name, kind), "kernels.c"]
        return subprocess.run(command, cwd=self.csrc / "kernels", capture_output=True, text=True, check=False).stdout

    def _kernels(self, name: str, kind: str, target: str) -> Path | None:
        return self._compile(self.csrc / "kernels" / "kernels.c", target, self._options(name, kind))

    def _compile(self, file: Path, name: str, options: list[str]) -> Path | None:
        target = self.folder / f"{name}.o"
        common = ["-std=gnu11", "-O0", "-fPIC", "-fvisibility=hidden", "-w", "-DWYRM_X86", f"-I{self.csrc}"]
        command = ["cc", *common, *options, "-c", str(file), "-o", str(target)]
        return target if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None

    def build(self, path: Path, text: str) -> bool:
        """Build the library with another source in the place of one; whether that is possible, and another program."""
        place = self.csrc / "kernels" / path.name
        before = place.read_text()
        place.write_text(text)
        objects, names = dict(self.objects), list[str]()
        for name in self.sets:
            changed = [k for k in ("float", "double") if self._preprocessed(name, k) != self.preprocessed[name, k]]
            if changed:
                names = [f"{name}_{kind}" for kind in changed]
                objects |= {n: self._kernels(name, kind, f"mutant_{n}") for n, kind in zip(names, changed, strict=True)}
                break
        place.write_text(before)
        if not all(objects.values()) or (text != before and not names):
            return False
        self.environment = {"WYRM_C_SIMD_INSTRUCTION_SET": name}
        self.library.unlink(missing_ok=True)  # a process may have it in memory
        return subprocess.run(["cc", "-shared", "-o", self.library, *objects.values(), "-lm"], check=False).returncode == 0


class NumbaBackend:
    """A copy of the package, with an empty cache of compiled code for each mutant."""

    name, package = "numba", "wyrm_numba"
    more = 60.0  # what is compiled once may be so in any check

    def __init__(self, folder: Path, sets: list[str]) -> None:
        import numba  # noqa: F401 - so that no mutant has to load it

        self.folder = folder
        self.source = ROOT / "backends" / "numba_backend" / "wyrm_numba"
        shutil.copytree(self.source, folder / "wyrm_numba", ignore=shutil.ignore_patterns("__pycache__"))
        beside = [self.source / f"{name}.py" for name in ("arithmetic", "tiles", "vectors")]  # what kernels are made of
        self.sources = [p for p in sorted((self.source / "kernels").glob("*.py")) if p.name != "__init__.py"] + beside
        self.environment = {"WYRM_NUMBA_CACHE": str(folder / "cache")}

    def build(self, path: Path, text: str) -> bool:
        """Put another source in the place of one; whether Python can read it."""
        for other in self.sources:
            place = self.folder / "wyrm_numba" / other.relative_to(self.source)
            place.write_text(text if other == path else other.read_text())
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        try:
            compile(text, str(path), "exec")
        except SyntaxError:
            return False
        return True


def check_all(backend: CBackend | NumbaBackend, names: list[str], seed: int, known: dict[str, Use], pipe: Connection) -> None:
    """In a process of its own: run checks up to the first that fails, and say how each went and what it used."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(backend.folder))
    os.environ.update(backend.environment)
    module = importlib.import_module(backend.package)
    assert Path(module.__file__ or "").is_relative_to(backend.folder)
    subject = wyrm.get_backend(backend.name)
    kernels = set[str]()
    compiling = subject.compile

    def noting(program: Program) -> Executable:
        kernels.update(instruction.kernel for instruction in program.instructions)
        return compiling(program)

    subject.compile = noting  # type: ignore[method-assign]
    for name in names:
        if not known:  # whatever a check uses is compiled in it
            forget()
        kernels.clear()
        began = time.process_time()
        limit = int(began + (TIMES * known[name].seconds + backend.more if name in known else 10_000))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        result = run_one(subject, CHECKS[name], seed)
        used = Use(time.process_time() - began, frozenset(kernels))
        pipe.send((name, "" if result.passed else result.failure.splitlines()[-1], used))
        if not result.passed:
            return
    pipe.send(("", "", None))


def fate(
    backend: CBackend | NumbaBackend, names: list[str], seed: int, known: dict[str, Use]
) -> tuple[str, str, dict[str, Use]]:
    """The check that kills what is built now, and why; empty where it survives. What each check used.

    What a check is known to use on the backend as it is limits how long it may go on.
    """
    receiving, sending = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=check_all, args=(backend, names, seed, known, sending))
    process.start()
    sending.close()
    uses, left = dict[str, Use](), list(names)
    try:
        while receiving.poll(SECONDS):
            name, failure, used = receiving.recv()
            if not name:
                return "", "", uses
            uses[name] = used
            left.remove(name)
            if failure:
                return name, failure, uses
        return (left or [""])[0], "a hang", uses
    except EOFError:  # the process is at its end
        process.join()
        code = process.exitcode or 0
        return (left or ["no check"])[0], signal.Signals(-code).name if code < 0 else f"exit status {code}", uses
    finally:
        process.kill()
        process.join()
        process.close()


def ordered(mutant: Mutant, uses: dict[str, Use], kills: Counter[str]) -> list[str]:
    """The checks, those first that are likely to notice a mutant."""

    def place(name: str) -> tuple[float, ...]:
        used = uses[name].kernels
        return -kills[name], mutant.kernel not in used, not used & mutant.kernels, len(used), uses[name].seconds

    return sorted(uses, key=place)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=["c_simd", "numba"])
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--select", action="append", default=[], metavar="PATTERN", help="run only checks whose name matches")
    parser.add_argument("--set", action="append", default=[], choices=list(CBackend.sets), help="change this instruction set")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    began, survivors = time.monotonic(), []
    kills: dict[Path, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        backend = (CBackend if options.backend == "c_simd" else NumbaBackend)(Path(folder), options.set)
        sources = [path for path in backend.sources if places(path, path.read_text())]
        weights = [len(places(path, path.read_text())) for path in sources]
        assert backend.build(sources[0], sources[0].read_text())
        name, failure, uses = fate(backend, [check.name for check in select(patterns=options.select)], options.seed, {})
        assert not name, f"the backend fails as it is: {name}: {failure}"
        seconds = sum(used.seconds for used in uses.values())
        print(f"the backend as it is passes {len(uses)} checks in {seconds:.1f} s of a processor", flush=True)
        known, equivalent = set[str](), set[str]()
        while len(known) < options.mutants:
            mutant = Mutant(rng.choices(sources, weights)[0], rng)
            if mutant.equivalent:
                equivalent.add(mutant.text)
                continue
            if mutant.text in known or not backend.build(mutant.path, mutant.text):  # no program at all, or the same one
                continue
            known.add(mutant.text)
            counter = kills.setdefault(mutant.path, Counter())
            name, failure, _ = fate(backend, ordered(mutant, uses, counter), options.seed, uses)
            counter[name] += 1
            verdict = f"killed by {name} ({failure[:120]})" if name else "SURVIVED"
            where = " ".join(backend.environment.values()) if options.backend == "c_simd" else ""
            print(f"[{len(known)}/{options.mutants}, {time.monotonic() - began:.0f} s] {verdict}", flush=True)
            print(f"  {where} {mutant.difference}", flush=True)
            if not name:
                survivors.append(mutant)
    killed = options.mutants - len(survivors)
    print(f"{killed} of {options.mutants} mutants killed, {len(equivalent)} equivalent ones left out; survivors:")
    for mutant in survivors:
        print(mutant.difference)
    return int(100 * len(survivors) > 5 * options.mutants)


if __name__ == "__main__":
    sys.exit(main())
