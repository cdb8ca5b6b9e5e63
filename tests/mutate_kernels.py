"""Mutants of the real backends' kernels: does the conformance suite notice a wrong operator, constant, bound or index?

    python tests/mutate_kernels.py c_simd --mutants 100 --seed 1
    python tests/mutate_kernels.py numba --mutants 20

Each mutant changes one token of one kernel source, is built alone (of the C backend, one file for one instruction set) and runs
the suite up to the first check that fails. Those that survive are printed: each is equivalent, or wants a new check. Not
part of the tests: about half a minute for each mutant.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
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
SECONDS = 240


class Mutant:
    """One token changed."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        self.before = path.read_text()
        start, stop = rng.choice(places(path, self.before))
        token = self.before[start:stop]
        if token in SWAPS:
            new = rng.choice(SWAPS[token])
        elif token[0].isdigit():
            new = str(float(token) * 1.25) if "." in token else str(int(token) + rng.choice([-1, 1]))
        else:
            new = f"{token} + 1"
        self.after = self.before[:start] + new + self.before[stop:]
        self.line = self.before[:start].count("\n")

    def __str__(self) -> str:
        old, new = (text.splitlines()[self.line].strip() for text in (self.before, self.after))
        return f"{self.path.relative_to(ROOT)}:{self.line + 1}\n    - {old}\n    + {new}"


def places(path: Path, text: str) -> list[tuple[int, int]]:
    """Where a source has tokens that can be changed, comments, strings and directives left out."""
    blank = lambda match: " " * len(match.group())
    comments = (
        r"//[^\n]*|/\*.*?\*/|^#[^\n]*"
        if path.suffix in (".h", ".c", ".def")
        else r'"""(?:.|\n)*?"""|#[^\n]*|^(?:from|import|def)[^\n]*'
    )
    text = re.sub(comments, blank, text, flags=re.MULTILINE)
    text = re.sub(r'"[^"\n]*"', blank, text)
    return [match.span() for match in TOKEN.finditer(text)]


class CBackend:
    """Kernels for one instruction set, rebuilt; everything else is compiled once."""

    name = "c_simd"
    sets = {
        "avx512": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mavx2", "-mfma"],
        "avx2": ["-mavx2", "-mfma"],
        "portable": [],
    }
    mutated = "avx2"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = ROOT / "backends" / "c_simd_backend"
        self.csrc = folder / "csrc"
        shutil.copytree(self.source / "csrc", self.csrc)
        package = shutil.copytree(self.source / "wyrm_c_simd", folder / "wyrm_c_simd")
        self.library = package / "_native.abi3.so"
        declarations = [str(self.csrc / f"_native.{kind}.h") for kind in ("cdef", "includes")]
        command = [sys.executable, "-m", "cffi.gen_src", "read-sources", "wyrm_c_simd._native", *declarations]
        subprocess.run([*command, str(self.csrc / "_native.c")], check=True)
        include = subprocess.run(
            [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('include'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        self.objects = []
        for file in sorted(self.csrc.glob("*.c")):
            self.compile(file, file.stem, ["-DWYRM_X86", "-DPy_LIMITED_API=0x030a0000", f"-I{include}", f"-I{self.csrc}"])
        for name in self.sets:
            self.kernels(name)

    def sources(self) -> list[Path]:
        return sorted((self.source / "csrc" / "kernels").glob("*.*"))

    def compile(self, file: Path, name: str, options: list[str]) -> bool:
        target = self.folder / f"{name}.o"
        if target not in self.objects:
            self.objects.append(target)
        command = [
            "cc",
            "-std=gnu11",
            "-O1",
            "-fPIC",
            "-fvisibility=hidden",
            "-w",
            *options,
            "-c",
            str(file),
            "-o",
            str(target),
        ]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def kernels(self, name: str) -> bool:
        flags = [*self.sets[name], "-DWYRM_X86", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
        return all(
            self.compile(
                self.csrc / "kernels" / "kernels.c",
                f"{name}_{kind}",
                [*flags, f"-DWYRM_KERNELS=wyrm_{name}_{kind}", *(["-DWYRM_DOUBLE"] if kind == "double" else [])],
            )
            for kind in ("float", "double")
        )

    def build(self, path: Path, text: str) -> bool:
        """Put a changed source in the place of the right one; whether it compiles."""
        (self.csrc / "kernels" / path.name).write_text(text)
        command = ["cc", "-shared", "-o", str(self.library), *map(str, self.objects), "-lm"]
        return self.kernels(self.mutated) and subprocess.run(command, capture_output=True, check=False).returncode == 0

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder), "WYRM_C_SIMD_INSTRUCTION_SET": self.mutated}


class NumbaBackend:
    """A copy of the package, with a cache of its own."""

    name = "numba"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = ROOT / "backends" / "numba_backend" / "wyrm_numba"
        shutil.copytree(self.package, folder / "wyrm_numba")

    def sources(self) -> list[Path]:
        return [path for path in sorted((self.package / "kernels").glob("*.py")) if path.name != "__init__.py"]

    def build(self, path: Path, text: str) -> bool:
        (self.folder / "wyrm_numba" / "kernels" / path.name).write_text(text)
        try:
            compile(text, str(path), "exec")
        except SyntaxError:
            return False
        return True

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.folder), "WYRM_NUMBA_CACHE": str(self.folder / "cache")}


def fate(backend: CBackend | NumbaBackend, seed: int) -> str:
    """The check that kills what is built now; empty where it survives."""
    command = [sys.executable, "-m", "wyrm_conformance", "--backend", backend.name, "--fail-fast", "--seed", str(seed)]
    environment = {**os.environ, **backend.environment()}
    try:
        process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "a time-out"
    if process.returncode == 0:
        return ""
    found = re.search(r"^failed: (.*)$", process.stdout, re.MULTILINE)
    return found.group(1) if found else f"exit status {process.returncode} ({(process.stderr.splitlines() or [''])[-1][:100]})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("backend", choices=["c_simd", "numba"])
    parser.add_argument("--mutants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        backend = (CBackend if options.backend == "c_simd" else NumbaBackend)(Path(folder))
        sources = [path for path in backend.sources() if places(path, path.read_text())]
        weights = [len(places(path, path.read_text())) for path in sources]
        assert backend.build(sources[0], sources[0].read_text())
        assert not fate(backend, options.seed), "the backend fails as it is"
        for n in range(options.mutants):
            mutant = Mutant(rng.choices(sources, weights)[0], rng)
            while not backend.build(mutant.path, mutant.after):  # no program at all: another one
                backend.build(mutant.path, mutant.before)
                mutant = Mutant(rng.choices(sources, weights)[0], rng)
            killer = fate(backend, options.seed)
            backend.build(mutant.path, mutant.before)
            print(f"[{n + 1}/{options.mutants}] {'killed by ' + killer if killer else 'SURVIVED'}: {mutant}", flush=True)
            if not killer:
                survivors.append(mutant)
        # Whatever changed meanwhile in this checkout would have killed them, too.
        assert not fate(backend, options.seed), "the backend as it is fails now: the fates above say nothing"
    print(f"{options.mutants - len(survivors)} of {options.mutants} mutants killed; survivors:")
    for mutant in survivors:
        print(mutant)
    return 0


if __name__ == "__main__":
    sys.exit(main())
