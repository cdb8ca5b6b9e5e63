"""Cases: what one is, how it is run, and which exceptions are findings.

A case is a script, a statement on each line, of six kinds:

* ``setup`` is right, and must not raise;
* ``data`` makes what is used; if it raises, there is no such data, and the case ends;
* ``attempt`` may be wrong: it may raise what tells a user what was wrong;
* ``then`` must hold if the attempt before it succeeded, and is left out if it raised;
* ``unless`` must hold if it raised, and is left out if it succeeded;
* ``check`` must hold either way. Where it raises :class:`Unclear`, nobody can say what would be right.

A target is a module with ``NAME``, ``write(rng)``, which writes a case, the names that its cases use, and ``planted()``, a
context in which it has to find something. It may have ``permits(error, line)`` beside what is permitted here.
"""

from __future__ import annotations

import linecache
import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

import wyrm

FILE = "<case>"
_WYRM = str(Path(wyrm.__file__).parent)
#: What Python 3.11 raises if it gets no memory for the frames of its functions. Functions in C that return nothing and raise
#: nothing are told of by their names.
_NO_FRAME = "error return without exception set"
#: What nobody could mean to raise, whoever raises it.
_INTERNAL = (AssertionError, SystemError, RecursionError, UnboundLocalError, NameError)


class Unclear(Exception):
    """There is no result to compare with."""


class Line(NamedTuple):
    """A statement, and of what kind it is."""

    kind: str
    text: str


@dataclass
class Finding:
    """Something that must not happen.

    Attributes
    ----------
    what
        In a line.
    where
        What findings of one cause have in common.
    ran
        The lines that were run, of which the last is at fault; attempts that raised are of the kind ``raised``.
    """

    what: str
    where: str
    ran: list[Line] = field(default_factory=list)

    @property
    def key(self) -> str:
        """By which findings are told apart."""
        kind, _, text = self.what.partition(":")
        told = re.sub(r"[0-9]+", "0", text)[:80] if "the case" in self.where else ""
        return f"{self.where} | {kind}{told}"


def expressions(module: str) -> dict[str, tuple[str, ...]]:
    """What cases are made of, by section: the file beside a module."""
    found: dict[str, list[str]] = {}
    for line in Path(module).with_suffix(".txt").read_text().splitlines()[1:]:
        if line.startswith("== "):
            section = found.setdefault(line[3:], [])
        elif line:
            section.append(line)
    return {name: tuple(lines) for name, lines in found.items()}


def generator(seed: int, target: str, number: int) -> np.random.Generator:
    """The random numbers of a case."""
    return np.random.default_rng([seed, number, *target.encode()])


def run(module: Any, lines: list[Line]) -> Finding | None:
    """Run a case; the first finding in it."""
    names = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    succeeded, ran = True, []
    for line in lines:
        if line.kind == ("unless" if succeeded else "then"):
            continue
        ran.append(line)
        try:
            exec(compile(line.text, FILE, "exec"), names)
            if line.kind == "attempt":
                succeeded = True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if line.kind == "data" or isinstance(error, Unclear):
                return None
            if line.kind != "attempt" or not permitted(error, module, line):
                what = f"{type(error).__name__}: {error}".strip()
                return Finding(what.split("\n\n")[0][:2000], f"{line.kind} in {_place(error.__traceback__)}", ran)
            succeeded = False
            ran[-1] = Line("raised", line.text)
            names["error"] = error
    return None


def permitted(error: BaseException, module: Any, line: Line) -> bool:
    """Whether an exception tells a user what was wrong.

    So does one that Wyrm raises by a statement of its own, one that Python raises at the call itself, and one by which the
    operating system refuses memory or files.
    """
    if isinstance(error, wyrm.WyrmError):
        return not hasattr(module, "permits") or bool(module.permits(error, line))
    if isinstance(error, (MemoryError, OSError)):
        return True
    if isinstance(error, SystemError) and str(error) == _NO_FRAME:
        return True
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    if not any(frame.filename.startswith(_WYRM) for frame in frames):  # Python says it of the statement itself
        return True
    if last.filename in (FILE, module.__file__):
        return not isinstance(error, (AssertionError, SystemError))
    if isinstance(error, RecursionError) and "repr" in str(error):  # of a value that Python itself cannot show
        return True
    if not isinstance(error, Exception) or isinstance(error, _INTERNAL) or not last.filename.startswith(_WYRM):
        return False
    if isinstance(error, TypeError) and re.search(r"\(\) (takes|missing|got (an|multiple|some))", str(error)):
        return len(frames) <= 3  # a call with the wrong arguments, which may go through `__call__`
    statement = linecache.getline(last.filename, last.lineno or 0).strip()
    if isinstance(error, Warning) and "warn(" in statement:
        return True
    return statement.startswith("raise ") and (not hasattr(module, "permits") or bool(module.permits(error, line)))


def _place(trace: TracebackType | None) -> str:
    """The innermost function of Wyrm's that an exception went through."""
    frames = [frame for frame in traceback.extract_tb(trace) if frame.filename.startswith(_WYRM)]
    if not frames:
        return "the case"
    return f"{Path(frames[-1].filename).relative_to(_WYRM)}:{frames[-1].name}"


def script(module: Any, finding: Finding, origin: str) -> str:
    """A finding as a program of its own, to be run in the root of the checkout with ``PYTHONPATH=.``."""
    lines = [f"# {text}" for text in (origin, *finding.what.splitlines()[:4])]
    lines += ["import contextlib", "", f"from {module.__name__} import *", ""]
    for line in finding.ran:
        lines += ["with contextlib.suppress(Exception):", f"    {line.text}"] if line.kind == "raised" else [line.text]
    return "\n".join(lines) + "\n"
