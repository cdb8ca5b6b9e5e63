"""The progress bar: tqdm's, loaded only when there is one to show, and drawn at most ten times a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

from wyrm.training.history import Epoch

__all__ = ["ProgressBar", "progress_bar"]

#: Seconds from one time that a bar is drawn to the next.
_INTERVAL = 0.1
_QUIETLY = nullcontext()


class ProgressBar:
    """No progress bar: what a bar can be told, and does nothing about."""

    def tracing(self) -> AbstractContextManager[None]:
        """Say meanwhile that functions are traced and programs compiled."""
        return _QUIETLY

    def begin(self, examples: int | None) -> None:
        """Count from now on up to so many examples; ``None`` if nobody knows how many."""

    def update(self, examples: int) -> None:
        """Count examples that have been run."""

    def note(self, epoch: Epoch) -> None:
        """Show loss and metrics of an epoch behind the bar."""

    def close(self) -> None:
        """Leave the bar as it is in the end."""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class _ShownBar(ProgressBar):
    """A bar of tqdm, which draws only when it is told to."""

    def __init__(self) -> None:
        from tqdm.auto import tqdm

        options: dict[str, Any] = {"unit": " examples", "unit_scale": True, "dynamic_ncols": True}
        self._bar: Any = tqdm(desc="tracing", mininterval=0, miniters=1, **options)
        self._drawn = time.monotonic()
        self._waiting = 0

    @contextmanager
    def tracing(self) -> Iterator[None]:
        self._bar.set_description("tracing", refresh=False)
        self.update(0)
        try:
            yield
        except BaseException:
            self.close()
            raise
        self._bar.set_description(None, refresh=False)

    def begin(self, examples: int | None) -> None:
        self._bar.reset(examples)
        self._drawn = time.monotonic()

    def update(self, examples: int) -> None:
        self._waiting += examples
        now = time.monotonic()
        if now - self._drawn >= _INTERVAL:
            if self._waiting:
                self._bar.update(self._waiting)
            else:
                self._bar.refresh()
            self._drawn, self._waiting = now, 0

    def note(self, epoch: Epoch) -> None:
        numbers = {"loss": epoch.loss, **epoch.metrics}
        self._bar.set_postfix(refresh=False, **{name: f"{value:.4g}" for name, value in numbers.items()})

    def close(self) -> None:
        self._bar.n += self._waiting
        self._waiting = 0
        self._bar.close()


def progress_bar(wanted: bool | None) -> ProgressBar:
    """A bar that says that it traces, until it begins; none if none is wanted, or (``None``) if nobody looks."""
    if wanted is None:
        wanted = sys.stderr.isatty() or "ipykernel" in sys.modules
    return _ShownBar() if wanted else ProgressBar()
