"""Tries calls again, until a deadline, that an API server refuses while it starts."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from homelab_mlops.console import say
from homelab_mlops.errors import HomelabError

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 3.0
LONGEST_ASKED_FOR = 15.0
_TRANSIENT = {408, 429, 500, 502, 503, 504}
# Words of a name server or a TLS handshake when the settings are wrong, so that waiting does not help.
_LASTING = ("CERTIFICATE_VERIFY_FAILED", "Name or service not known", "nodename nor servname", "WRONG_VERSION_NUMBER")

Answer = TypeVar("Answer")


class NotYetError(Exception):
    """The API server does not serve the kind yet, but will."""


class UnknownKindError(NotYetError):
    """The API server knows no such kind, or does not know it yet."""


class Patience:
    """Waits for up to ``seconds`` over all calls together, and says once for each outage what it waits for.

    Args:
        name_seconds: how long a call waits for a name server that has no answer, where that is less.
    """

    def __init__(self, seconds: float, name_seconds: float | None = None) -> None:
        self._until = time.monotonic() + seconds
        self._name_seconds = name_seconds

    def call(self, attempt: Callable[[bool], Answer]) -> Answer:
        """What ``attempt`` returns; its argument is whether an earlier attempt failed, and may have had its effect.

        Raises:
            Exception: what the last attempt raised: it was not transient, or the time is over.
        """
        pause, since = FIRST_PAUSE, time.monotonic()
        failed = False
        while True:
            try:
                answer = attempt(failed)
            except Exception as error:
                reason = transient(error)
                asked, until = _asked_for(error), self._until
                if self._name_seconds is not None and unresolved(error):
                    until = min(until, since + self._name_seconds)
                if reason is None or time.monotonic() + max(pause, asked) > until:
                    raise
                if not failed:
                    say(f"waits for up to {until - since:.0f} s: {reason}")
                    failed = True
                time.sleep(max(pause, asked))
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if failed:
                say(f"went on after {time.monotonic() - since:.0f} s")
            return answer


def transient(error: Exception) -> str | None:
    """In words, what fails only for a moment; None where the same call would fail again."""
    import urllib3
    from kubernetes.client import ApiException

    match error:
        case NotYetError():
            return str(error)
        case HomelabError():
            name = unresolved(error)
            lasting = name is not None and name.errno != socket.EAI_AGAIN
            return error.what if error.transient and not lasting else None
        case ApiException() if error.status in _TRANSIENT:
            return f"the API server answers {error.status}: {reason_of(error)}"
        case ApiException() if error.status:
            return None
        case ApiException() | urllib3.exceptions.HTTPError():
            said = reason_of(error)
            return None if any(words in said for words in _LASTING) else f"the API server does not answer: {said}"
    return None


def unresolved(error: BaseException) -> socket.gaierror | None:
    """What a name server said, where an error comes from a name that does not resolve."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, socket.gaierror):
        cause = cause.__cause__ or cause.__context__
    return cause


def reason_of(error: Exception) -> str:
    """The words of an API server, or of a failed connection to it."""
    import json

    body = getattr(error, "body", None)
    if body:
        try:
            return str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            return str(body.decode(errors="replace") if isinstance(body, bytes) else body).strip()
    return str(getattr(error, "reason", None) or error)


def _asked_for(error: Exception) -> float:
    """The seconds of ``Retry-After``."""
    headers = getattr(error, "headers", None) or {}
    with contextlib.suppress(ValueError, TypeError):
        return min(float(headers.get("Retry-After", 0)), LONGEST_ASKED_FOR)
    return 0.0
