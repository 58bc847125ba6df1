"""Both sides of a review, read by git while Python loads the command line: each takes as long as the other."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import takewhile

from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.review.run import here, sides

_Asked = tuple[str | None, str | None]
_begun: dict[_Asked, Future[tuple[Tree, Tree]]] = {}


def hurry() -> None:
    """Sets Python up for a command of half a second that waits for many processes."""
    gc.disable()  # the command ends before a garbage collection pays
    sys.setswitchinterval(0.0005)  # a thread whose process has ended goes on at once


@contextmanager
def reading(arguments: list[str]) -> Iterator[None]:
    """Reads the commits that the arguments of `homelab diff` name, until the block ends.

    An option may take the argument behind it; so only those before the first option are names for sure.
    """
    hurry()
    names = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    if len(names) > 2 or (arguments and not names):
        yield
        return
    base, head = (*names, None, None)[:2]
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=1) as pool:
        _begun[base, head] = pool.submit(lambda: stack.enter_context(sides(here(), base, head)))
        try:
            yield
        finally:
            _begun.clear()


@contextmanager
def opened(base: str | None, head: str | None) -> Iterator[tuple[Tree, Tree]]:
    """The two trees to compare, until the block ends; those that were begun, where they are the same.

    Raises:
        RepositoryError: the folder is no clone, or the clone lacks a commit.
    """
    begun = _begun.get((base, head))
    if begun is not None:
        yield begun.result()
    else:
        with sides(here(), base, head) as both:
            yield both
