"""The figures as tables in Markdown, each from the results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from benchmarks.results import Entry, Results, Start
from benchmarks.sweeps import SWEEPS
from benchmarks.workloads import WORKLOADS

__all__ = ["TABLES", "digits", "large", "machine", "overview", "starts", "sweep", "threads", "workload"]

#: Who stands in the overview, beside the one that others are compared to.
_SHOWN = ("c_simd, fit", "numba, fit", "c_simd, from Python", "numba, from Python")


def digits(number: float) -> str:
    """Three significant digits, with thousands set apart."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.4g}" if rounded >= 0.001 else f"{rounded:.2e}"


def machine(results: Results) -> Iterator[str]:
    """Where it ran, and with what."""
    found = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    chosen = ", ".join(f"{name} on {chosen}" for name, chosen in found["backends"].items() if chosen)
    yield from _header(["machine", ""], numbers=False)
    yield f"| processor | {found['processor']} ({found['family']}), {found['cores']} cores |"
    yield f"| instruction sets | {', '.join(found['instruction_sets'])}{'; ' + chosen if chosen else ''} |"
    yield f"| system | {found['system']} |"
    yield f"| compiler | {found['compiler'] or 'none'} |"
    yield f"| versions | {versions} |"
    took = f", in {results.settings['took'] / 60:.0f} minutes" if "took" in results.settings else ""
    yield f"| when | {found['time']}{took} |"


def overview(results: Results) -> Iterator[str]:
    """A line for each workload on one thread: µs, and how many times as long as the first of its table."""
    counts = {one.workload: one.count for one in results.instructions}
    found = {key: results.of(key) for key in WORKLOADS}
    found = {key: entries for key, entries in found.items() if entries and not WORKLOADS[key].threads}
    with_peers = any(entry.peer for entries in found.values() for entry in entries)
    columns = [name for name in _SHOWN if any(_named(entries, name) for entries in found.values())]
    yield from _header(
        ["", "compared to", *columns, *(["best of others"] if with_peers else []), *(["instructions"] if counts else [])]
    )
    for key, entries in found.items():
        first = entries[0]
        others = [entry for entry in entries[1:] if entry.peer]
        cells = [f"{first.label}: {digits(first.microseconds)}"]
        cells += [_compared(_named(entries[1:], name), first) for name in columns]
        if with_peers:
            best = min(others, key=lambda entry: entry.microseconds, default=None)
            cells.append(f"{best.label}: {_compared(best, first)}" if best else "")
        if counts:
            cells.append(f"{counts[key]:,.0f}" if key in counts else "")
        yield f"| {key.upper()}, µs per {WORKLOADS[key].unit} | " + " | ".join(cells) + " |"


def _named(entries: Iterable[Entry], name: str) -> Entry | None:
    """The one of this name; a graph that is rebuilt counts as driven from Python."""
    return next((entry for entry in entries if entry.threads == 1 and entry.name in (name, f"{name}, rebuilt")), None)


def _compared(entry: Entry | None, first: Entry) -> str:
    return f"{digits(entry.microseconds)} ({digits(entry.ratio(first))} ×)" if entry else ""


def workload(entries: Sequence[Entry], unit: str) -> Iterator[str]:
    """All that took part."""
    yield from _header(["", f"µs per {unit}", "shortest – longest", f"{unit}s a second", f"× {entries[0].label}"])
    for entry in entries:
        low, high = entry.spread
        rate = digits(1e6 / entry.microseconds)
        spread = f"{digits(low)} – {digits(high)}"
        yield f"| {entry.label} | {digits(entry.microseconds)} | {spread} | {rate} | {digits(entry.ratio(entries[0]))} |"


def threads(results: Results) -> Iterator[str]:
    """Million steps a second by threads, and how many times those on one thread."""
    shown = [key for key, one in WORKLOADS.items() if one.threads and results.of(key)]
    counts = sorted({entry.threads for key in shown for entry in results.of(key)})
    yield from _header(["million steps a second", *(f"{count} thread{'s' if count > 1 else ''}" for count in counts)])
    for key in shown:
        yield f"| **{WORKLOADS[key].title}** |" + " |" * len(counts)
        entries = results.of(key)
        for name in dict.fromkeys(entry.name for entry in entries):
            own = {entry.threads: entry for entry in entries if entry.name == name}
            alone = own.get(1) or _on_one_thread(entries, name)
            cells = []
            for count in counts:
                entry = own.get(count)
                scaling = f" ({digits(1 / entry.ratio(alone))} ×)" if entry and alone and count > 1 else ""
                cells.append(f"{digits(1 / entry.microseconds)}{scaling}" if entry else "")
            yield f"| {name} | " + " | ".join(cells) + " |"


def _on_one_thread(entries: Sequence[Entry], name: str) -> Entry | None:
    """What a schedule for several threads is compared to: the same backend, with the examples in the same order."""
    backend, *rest = name.split(", ")
    alone = f"{backend}, fit" + (", shuffled" if "shuffled" in rest else "")
    return next((entry for entry in entries if entry.name == alone and entry.threads == 1), None)


def large(results: Results) -> Iterator[str]:
    """Memory that a large table takes."""
    yield from _header(["", "threads", "the table, GB", "memory taken, GB", "× the table"])
    for one in results.memory:
        sizes = f"{digits(one.table / 1e9)} | {digits(one.growth / 1e9)} | {one.ratio:.3f}"
        yield f"| {one.backend}, {one.optimizer} | {one.threads} | {sizes} |"


def starts(results: Results) -> Iterator[str]:
    """Milliseconds to the first step, for each backend and way: with an empty cache, and with a full one."""
    steps = [start for start in results.starts if start.what != "import"]
    whats = list(dict.fromkeys(start.what for start in steps))
    yield from _header(["milliseconds", *(what.upper() for what in whats)])
    for backend, way in dict.fromkeys((start.backend, start.way) for start in steps):
        own = {start.what: start for start in steps if (start.backend, start.way) == (backend, way)}
        kinds: tuple[tuple[str, Callable[[Start], float]], ...] = (
            ("the first time", lambda s: s.cold),
            ("again", lambda s: s.warm),
        )
        for kind, figure in kinds:
            cells = (digits(figure(own[what])) if what in own else "" for what in whats)
            yield f"| {backend}, {way}, {kind} | " + " | ".join(cells) + " |"


def imports(results: Results) -> Iterator[str]:
    """What importing takes."""
    yield from _header(["milliseconds", "the first time", "again"])
    for start in results.starts:
        if start.what == "import":
            name = f"loading {start.backend}, after `import wyrm`" if start.backend else "`import wyrm`, after NumPy"
            yield f"| {name} | {digits(start.cold)} | {digits(start.warm)} |"


def sweep(results: Results, key: str) -> Iterator[str]:
    """Of one quantity."""
    found = next(one for one in SWEEPS if one.key == key)
    points = [point for point in results.points if point.sweep == key and point.entry.seconds]
    entries = {(point.entry.label, point.at): point.entry for point in points}
    values = [value for value in found.values if any(point.at == value for point in points)]
    yield from _header([f"µs per {found.unit}, by {found.axis}", *(f"{value:,}" for value in values)])
    for name in dict.fromkeys(point.entry.label for point in points):
        cells = (entries.get((name, value)) for value in values)
        yield f"| {name} | " + " | ".join(digits(cell.microseconds) if cell else "" for cell in cells) + " |"


def _header(columns: Sequence[str], numbers: bool = True) -> Iterator[str]:
    yield "| " + " | ".join(columns) + " |"
    yield "|---|" + ("---:|" if numbers else "---|") * (len(columns) - 1)


#: By the name under which a page asks for them; each says nothing where nothing was measured.
TABLES: dict[str, Callable[[Results], Iterator[str]]] = {
    "machine": machine,
    "overview": overview,
    "threads": threads,
    "large": large,
    "starts": starts,
    "imports": imports,
    **{one.key: lambda results, key=one.key: sweep(results, key) for one in SWEEPS},
}
