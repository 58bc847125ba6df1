"""A name that does not resolve is not waited for; a name server without an answer is, as long as the caller wants."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest

from homelab_mlops.clients.mlflow import ModelRegistry
from homelab_mlops.clients.patience import Patience
from homelab_mlops.errors import TrackingError


def asked(patience: Patience) -> str:
    """What a registry ends with whose name no server knows."""
    with (
        ModelRegistry("http://mlflow.homelab.example:5000", "", "") as registry,
        pytest.raises(TrackingError) as ended,
    ):
        patience.call(lambda _: registry.versions("churn"))
    return ended.value.what


def name_server_says(monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def answer(*_: Any, **__: Any) -> NoReturn:
        raise socket.gaierror(number, words)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def test_a_name_that_does_not_resolve_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name_server_says(monkeypatch, socket.EAI_NONAME, "Name or service not known")
    assert "the name mlflow.homelab.example does not resolve" in asked(Patience(3600, 3600))
    assert "waits for" not in capfd.readouterr().err


def test_a_name_server_without_an_answer_is_waited_for_a_little(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name_server_says(monkeypatch, socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert "does not resolve" in asked(Patience(3600, 1))
    assert capfd.readouterr().err.startswith("waits for up to 1 s: MLflow cannot be reached: the name ")
