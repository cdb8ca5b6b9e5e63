"""The order of computation: operands before results, without recursion, so that graphs may be deep."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import TypeVar

__all__ = ["operands_first"]

T = TypeVar("T")


def operands_first(roots: Iterable[T], operands: Callable[[T], Sequence[T]], done: Container[T]) -> Iterator[T]:
    """Yield the roots and all that they depend on, each after its operands.

    Parameters
    ----------
    operands
        What a thing depends on directly.
    done
        What is not to be yielded (again): the caller adds each thing that it is given before it asks for the next.
    """
    stack = list(roots)[::-1]
    while stack:
        thing = stack[-1]
        if thing in done:
            stack.pop()
            continue
        waiting = [operand for operand in operands(thing) if operand not in done]
        if waiting:
            stack += waiting[::-1]
        else:
            stack.pop()
            yield thing
