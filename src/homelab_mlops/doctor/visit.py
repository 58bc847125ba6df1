"""One call of the doctor: what it looks at, how long it may take, and what its checks share."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from homelab_mlops.errors import HomelabError

# How long the checks may take together; with the start of Python the doctor stays under ten seconds.
BUDGET_SECONDS = 7.0
# After the deadline, or a stop, a check has this long to end; then the doctor deletes its probe.
TIDY_SECONDS = 1.0
# How long a request that deletes a probe may take.
DELETE_SECONDS = 1.0
# The doctor calls a server silent only after it has waited this long: before, only its own time was over.
PATIENCE_SECONDS = 2.5


class NotLookedAtError(Exception):
    """A check has nothing to look at here; the text says why. With ``partly`` the checks after it are asked all the
    same."""

    def __init__(self, why: str, *, partly: bool = False) -> None:
        super().__init__(why)
        self.partly = partly


class OutOfTimeError(HomelabError):
    """The doctor's time was over before a server answered. That says nothing about the server.

    A check raises it where it cannot go on, and yields it where it can.
    """


class Closing(Protocol):
    """A client that holds connections."""

    def close(self) -> object: ...


Client = TypeVar("Client", bound=Closing)


@dataclass(frozen=True)
class Model:
    """What the doctor needs of a model: the experiment that has its name, and where its table lies."""

    name: str
    source: str


@dataclass
class Visit:
    """What one call of the doctor looks at, and until when.

    Attributes:
        env: the environment variables.
        root: the clone around the current folder, if any.
        models: the models whose experiments and tables are looked at.
        model_given: whether a person named the models, so that their tables have to be there.
        may_create: whether a check may make the experiment, as the training that follows would.
        in_cluster: whether this runs in a pod.
        store: MLflow's bucket, as an s3:// address, where a person named it.
        context: the context of the kubeconfig, where a person named it.
        key_file: the private sealing key, where a person named it.
        deadline: when the time is over, in seconds of the monotonic clock.
        stopped: set once the time is over or the command is stopped.
        shared: what one check leaves for others.
        requests: how many requests the checks sent, by group.
        doubts: by group, what a server did not confirm in time, such as that the probe is deleted.
        probe: the name of the one object that checks write, and delete again.
    """

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path | None = None
    models: tuple[Model, ...] = ()
    model_given: bool = False
    may_create: bool = False
    in_cluster: bool = False
    store: str = ""
    context: str | None = None
    key_file: Path | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + BUDGET_SECONDS)
    stopped: threading.Event = field(default_factory=threading.Event)
    shared: dict[str, Any] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    probe: str = field(default_factory=lambda: f"homelab-doctor/{uuid.uuid4().hex}")
    _clients: list[Closing] = field(default_factory=list)
    _leftovers: list[Callable[[], object]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, group: str) -> None:
        """Notes that a check of this group sends a request."""
        with self._lock:
            self.requests[group] += 1

    def doubt(self, group: str, what: str) -> None:
        """Notes what a server did not confirm in time, once."""
        with self._lock:
            doubts = self.doubts.setdefault(group, [])
            if what not in doubts:
                doubts.append(what)

    def keep(self, client: Client) -> Client:
        """The client, which the end of the visit closes."""
        self._clients.append(client)
        return client

    @contextlib.contextmanager
    def removing(self, remove: Callable[[], object]) -> Iterator[None]:
        """Calls ``remove`` at the end of the block, or when the visit ends while the block still waits for an answer.

        It may be called twice.
        """
        self._leftovers.append(remove)
        try:
            yield
        finally:
            remove()
            self._leftovers.remove(remove)

    def end(self) -> None:
        """Deletes what checks that have not ended would have deleted, and closes the clients."""
        for remove in [*self._leftovers]:
            remove()
        for client in self._clients:
            client.close()

    def seconds(self, most: float) -> float:
        """How long a request may take: ``most`` or the time that is left; after the deadline, the time to delete a
        probe."""
        if self.stopped.is_set():
            return min(most, DELETE_SECONDS)
        return max(0.2, min(most, self.deadline - time.monotonic()))

    def variable(self, *names: str) -> str:
        """The first of the environment's variables that is set."""
        return next((value for name in names if (value := self.env.get(name, "").strip())), "")
