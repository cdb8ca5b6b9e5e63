"""The progress bar: tqdm's, loaded only when there is one to show."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

__all__ = ["progress_bar"]


class _Quiet:
    """No progress bar."""

    def update(self, examples: int) -> None:
        """Do nothing."""

    def set_postfix(self, **values: str) -> None:
        """Do nothing."""

    def __enter__(self) -> _Quiet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        pass


def progress_bar(examples: int | None, wanted: bool | None) -> Any:
    """A bar that counts examples (``None``: nobody knows how many); a quiet one where none is wanted, or where nobody looks."""
    if wanted is None:
        wanted = sys.stderr.isatty() or "ipykernel" in sys.modules
    if not wanted:
        return _Quiet()
    from tqdm.auto import tqdm

    return tqdm(total=examples, unit=" examples", unit_scale=True, dynamic_ncols=True)
