"""What a training run leaves behind: :class:`History`, with an :class:`Epoch` for each pass over the data."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from wyrm.arguments import shown
from wyrm.errors import CapabilityError, DTypeError, OptionError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Epoch", "History"]

#: Epochs beyond which notebooks show the first and the last alone.
_MOST_ROWS = 20


@dataclass(frozen=True)
class Epoch:
    """One pass over the data.

    Attributes
    ----------
    number
        Counted from 1.
    loss
        The mean loss of the examples, each before its own update and multiplied with its weight: the sum, divided by their
        number, whatever the reduction of the updates.
    examples
        How many there were.
    seconds
        How long the pass took.
    learning_rate
        That of the epoch's last step, of the first group of the first optimizer.
    metrics
        Further numbers by name: ``"validation_loss"`` of a held-out feed, and what callbacks add.
    skipped
        How many of the examples had nothing left to draw: every number is excluded (:class:`wyrm.SampledIndexNode`). They have
        no loss, are not part of its mean, and changed nothing.
    """

    number: int
    loss: float
    examples: int
    seconds: float
    learning_rate: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    skipped: int = 0

    @property
    def examples_per_second(self) -> float:
        """The throughput."""
        return self.examples / self.seconds if self.seconds else math.inf

    def metric(self, name: str) -> float:
        """The loss, or a metric by its name.

        Raises
        ------
        OptionError
            Where there is none of this name.
        """
        if not isinstance(name, str):
            raise DTypeError(f"epoch {self.number}: expected the name of a metric, got {shown(name)}")
        if name == "loss":
            return self.loss
        if name not in self.metrics:
            known = ", ".join(map(repr, ["loss", *self.metrics]))
            raise OptionError(
                f"epoch {self.number} has no metric {name!r}, but {known}; a callback that adds one stands before those that "
                f"use it"
            )
        return self.metrics[name]

    def row(self) -> dict[str, float]:
        """Everything as one flat dictionary."""
        return {
            "epoch": self.number,
            "loss": self.loss,
            **self.metrics,
            "learning_rate": self.learning_rate,
            "examples": self.examples,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "examples_per_second": self.examples_per_second,
        }


@dataclass(repr=False)
class History:
    """The epochs of a training run, in order, and how it ran.

    Where training ends by an exception, by Ctrl-C for instance, the exception has the history of the epochs that were completed
    as its attribute ``history``.

    Attributes
    ----------
    backend
        Where it ran.
    num_threads
        On how many threads.
    startup_seconds
        From the call to the first step: checking the data, lowering, compiling.
    schedule
        How they shared the parameters, as the option of :func:`wyrm.fit` names it; ``sequential`` for one thread.
    reason
        Why, where nobody asked for it.
    seed
        Of the order of the examples and of what is random: the one that was given, or else was drawn.
    examples_per_thread
        How many examples each thread has run, since it was resumed.
    repeatable
        Whether a run of the same model, data and options, with the ``seed`` and ``schedule`` that stand here, ends with the
        same bits, on any number of threads. It does not if threads shared the parameters without locks (``hogwild``), or if
        ``auto`` tried several schedules as it ran, which it does without a seed alone.
    stopped
        Why a callback ended training early; empty if none did. A run that is resumed from a checkpoint has stopped if that had.
    epochs
        One entry for each pass over the data; of a run that was resumed, from its beginning on.

    Examples
    --------
    >>> history = History("reference", 1, 0.0)
    >>> history.epochs.append(Epoch(1, 0.5, examples=1000, seconds=0.25, learning_rate=0.1, metrics={"accuracy": 0.75}))
    >>> history.rows()[0]["accuracy"], history.losses
    (0.75, [0.5])
    >>> history
    <History of 1 epoch on reference, sequential, 1 thread: loss 0.5, accuracy 0.75>
    >>> History.from_json(history.to_json()) == history
    True
    """

    backend: str
    num_threads: int
    startup_seconds: float
    schedule: str = "sequential"
    reason: str = ""
    seed: int | None = None
    examples_per_thread: list[int] = field(default_factory=list)
    repeatable: bool = True
    stopped: str = ""
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The mean loss of each epoch."""
        return [epoch.loss for epoch in self.epochs]

    def rows(self) -> list[dict[str, float]]:
        """One dictionary for each epoch, as ``pandas.DataFrame`` and ``csv.DictWriter`` take them."""
        return [epoch.row() for epoch in self.epochs]

    def to_json(self) -> str:
        """Everything as text in JSON; numbers that are not finite are written as strings, since JSON has none."""
        return json.dumps(_plain(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> History:
        """The history that :meth:`to_json` wrote.

        Raises
        ------
        OptionError
            For any other text.
        """
        try:
            fields = json.loads(text)
            epochs = [_epoch(**entry) for entry in fields.pop("epochs")]
            history = cls(**{**fields, "startup_seconds": float(fields["startup_seconds"])}, epochs=epochs)
            for name, kind in {"schedule": str, "reason": str, "stopped": str, "repeatable": bool}.items():
                if type(getattr(history, name)) is not kind:
                    raise TypeError(f"{name} is {getattr(history, name)!r}")
            return history
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise OptionError(f"History.from_json: expected what to_json wrote; {type(error).__name__}: {error}") from None

    def __repr__(self) -> str:
        """One line: how many epochs there are, where they ran, and what the last one came to."""
        threads = f"{self.num_threads} thread{'s' * (self.num_threads != 1)}"
        text = f"{len(self)} epoch{'s' * (len(self) != 1)} on {self.backend}, {self.schedule}, {threads}"
        if self.epochs:
            last = self.epochs[-1]
            numbers = {"loss": last.loss, **last.metrics}
            text += ": " + ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
        return f"<History of {text}{f'; stopped: {self.stopped}' if self.stopped else ''}>"

    def _repr_html_(self) -> str:
        """A table of the epochs, for notebooks: the first and the last, if there are many."""
        rows = self.rows()
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{html.escape(str(name))}</th>" for name in names)
        lines = [f"<tr>{''.join(f'<td>{_cell(row.get(name))}</td>' for name in names)}</tr>" for row in rows]
        if len(lines) > _MOST_ROWS:
            left_out = len(lines) - _MOST_ROWS
            half = _MOST_ROWS // 2
            lines[half:-half] = [f'<tr><td colspan="{len(names)}">… {left_out} epochs …</td></tr>']
        return f"<p>{html.escape(repr(self)[1:-1])}</p><table><tr>{head}</tr>{''.join(lines)}</table>"

    def plot(self) -> Figure:
        """The course of training as a picture: losses above, and every other metric below them on axes of its own.

        Returns
        -------
        matplotlib.figure.Figure
            ``.savefig("history.png")`` writes it to a file, ``.axes`` are its parts. Nothing global changes.

        Raises
        ------
        CapabilityError
            Where matplotlib, of the extra ``draw``, is not installed.
        """
        try:
            from matplotlib.figure import Figure
            from matplotlib.ticker import MaxNLocator
        except ImportError as error:
            raise CapabilityError(
                f"plotting a history needs matplotlib ({error}); install it by `pip install wyrm-autodiff[draw]`. "
                f"rows() and to_json() need nothing"
            ) from None
        names = list(dict.fromkeys(name for epoch in self.epochs for name in epoch.metrics))
        others = [name for name in names if not name.endswith("loss")]
        figure = Figure(figsize=(6.4, 2.4 + 1.6 * len(others)), layout="constrained")
        parts = figure.subplots(1 + len(others), sharex=True, squeeze=False)[:, 0]
        losses = ["loss", *(name for name in names if name.endswith("loss"))]
        for axes, drawn in zip(parts, [losses, *([name] for name in others)], strict=True):
            for name in drawn:
                points = [(e.number, e.metric(name)) for e in self.epochs if name == "loss" or name in e.metrics]
                axes.plot(*zip(*points, strict=True) if points else ([], []), marker=".", label=name)
            axes.set_ylabel(drawn[0] if len(drawn) == 1 else "loss")
            axes.grid(alpha=0.3)
        if len(losses) > 1:
            parts[0].legend()
        parts[-1].set_xlabel("epoch")
        parts[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, number: int) -> Epoch:
        try:
            return self.epochs[number]
        except TypeError:
            raise DTypeError(f"history: expected the number of an epoch, counted from 0, got {shown(number)}") from None


def _cell(value: Any) -> str:
    """A number, or whatever a callback has added, in a table."""
    return "" if value is None else html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def _plain(value: Any) -> Any:
    """The same with numbers of Python, those that are not finite as strings: ``float`` reads them back."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _epoch(
    number: int,
    loss: float,
    examples: int,
    seconds: float,
    learning_rate: float,
    metrics: dict[str, float],
    skipped: int = 0,
) -> Epoch:
    """An epoch of what was read: whole numbers, and others that may have been written as strings."""
    for name, count in (("number", number), ("examples", examples), ("skipped", skipped)):
        if type(count) is not int or count < 0:
            raise ValueError(f"expected a count as {name}, got {count!r}")
    read = {name: float(value) for name, value in metrics.items()}
    return Epoch(number, float(loss), examples, float(seconds), float(learning_rate), read, skipped)
