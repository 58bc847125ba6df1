"""Both sides of a review, read by git and built by kustomize while Python loads the command line."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from itertools import takewhile
from threading import Event
from typing import TYPE_CHECKING, Any

from homelab_mlops.gitops.argo_cd.trees import Tree
from homelab_mlops.review.run import here, sides

if TYPE_CHECKING:
    from homelab_mlops.gitops.argo_cd.applications import Side

# What renders is loaded while git writes the files.
_SIDES = "homelab_mlops.gitops.argo_cd.sides"
# With these options something else is rendered, or nothing.
_OTHER = ("--root", "--help", "-h")

_Asked = tuple[str | None, str | None]
_begun: dict[_Asked, Future[tuple[Tree, Tree]]] = {}
_rendered: dict[_Asked, Future[tuple[Side, Side]]] = {}


def hurry() -> None:
    """Sets Python up for a command of half a second that waits for many processes."""
    gc.disable()  # the command ends before a garbage collection pays
    sys.setswitchinterval(0.0005)  # a thread whose process has ended goes on at once


@contextmanager
def reading(arguments: list[str]) -> Iterator[None]:
    """Reads and renders the commits that the arguments of `homelab diff` name, until the block ends.

    An option may take the argument behind it; so only those before the first option are names for sure.
    """
    hurry()
    names = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    if len(names) > 2 or (arguments and not names):
        yield
        return
    base, head = (*names, None, None)[:2]
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=2) as pool:
        trees = _begun[base, head] = pool.submit(lambda: stack.enter_context(sides(here(), base, head)))
        try:
            with suppress(ModuleNotFoundError):  # the command line says what is missing
                if not any(argument.startswith(_OTHER) for argument in arguments):
                    begun = Event()
                    _rendered[base, head] = pool.submit(_render, trees, import_module(_SIDES), begun)
                    begun.wait()  # what kustomize waits for goes first
            yield
        finally:
            _begun.clear()
            _rendered.clear()


def _render(trees: Future[tuple[Tree, Tree]], module: Any, begun: Event) -> tuple[Side, Side]:
    try:
        found: tuple[Side, Side] = module.render_sides(*trees.result(), begun=begun.set)
    finally:
        begun.set()
    return found


def rendered(base: str | None, head: str | None, old: Tree, new: Tree, roots: tuple[str, ...]) -> tuple[Side, Side]:
    """Both sides of two trees that were opened by these names; what was begun, where it is the same.

    Raises:
        RepositoryError: no side has an Application.
        ToolError: kustomize is not here.
    """
    begun = _rendered.get((base, head)) if not roots else None
    if begun is not None:
        return begun.result()
    found: tuple[Side, Side] = import_module(_SIDES).render_sides(old, new, roots)
    return found


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
