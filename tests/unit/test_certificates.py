"""The authority signs for its domain and for nothing else; real TLS handshakes say so."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest

from homelab_mlops.certificates import (
    Pair,
    covers,
    domain_of,
    ends,
    new_authority,
    new_certificate,
    read_certificate,
    refuse_pair,
    signed_by,
)
from homelab_mlops.errors import RepositoryError

DOMAIN = "home.example.org"
AUTHORITY = new_authority(DOMAIN)


def shakes_hands(server: Pair, trusts: str | None, host: str, folder: Path) -> str:
    """What a client says of the server's certificate: nothing where all is well."""
    (folder / "crt").write_text(server.certificate)
    (folder / "key").write_text(server.key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(folder / "crt", folder / "key")
    asking = ssl.create_default_context(cadata=trusts)
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            serving.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        asking.wrap_socket(here, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        here.close()
        thread.join()
    return ""


@pytest.mark.parametrize(
    ("names", "host", "said"),
    [
        ([f"*.{DOMAIN}"], f"mlflow.{DOMAIN}", ""),
        ([f"*.{DOMAIN}", f"churn.models.{DOMAIN}"], f"churn.models.{DOMAIN}", ""),
        ([f"*.{DOMAIN}"], f"churn.models.{DOMAIN}", "mismatch"),
        (["bank.example.com"], "bank.example.com", "permitted subtree violation"),
        ([f"{DOMAIN}.evil.com"], f"{DOMAIN}.evil.com", "permitted subtree violation"),
    ],
)
def test_a_client_that_has_the_authority_accepts_names_of_the_domain_only(
    names: list[str], host: str, said: str, tmp_path: Path
) -> None:
    server = new_certificate(AUTHORITY, names)

    assert said in shakes_hands(server, AUTHORITY.certificate, host, tmp_path)
    assert bool(shakes_hands(server, AUTHORITY.certificate, host, tmp_path)) == bool(said)
    assert covers(server.certificate, host) == ("mismatch" not in said)


def test_a_client_without_the_authority_refuses(tmp_path: Path) -> None:
    server = new_certificate(AUTHORITY, [f"*.{DOMAIN}"])

    assert "self-signed" in shakes_hands(
        server, None, f"mlflow.{DOMAIN}", tmp_path
    ) or "unable to get local issuer" in (shakes_hands(server, None, f"mlflow.{DOMAIN}", tmp_path))
    assert shakes_hands(server, new_authority(DOMAIN).certificate, f"mlflow.{DOMAIN}", tmp_path)


def test_a_renewed_certificate_is_another_of_the_same_authority() -> None:
    first, second = (new_certificate(AUTHORITY, [f"*.{DOMAIN}"]) for _ in range(2))

    assert first.key != second.key
    assert signed_by(first.certificate, AUTHORITY.certificate)
    assert signed_by(second.certificate, AUTHORITY.certificate)
    assert not signed_by(second.certificate, new_authority(DOMAIN).certificate)
    # Apple's devices refuse more than that.
    assert read_certificate(second.certificate).not_valid_before_utc > ends(second.certificate) - datetime.timedelta(
        825
    )


def test_an_authority_that_ends_first_signs_nothing() -> None:
    old = new_authority(DOMAIN, datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3400))

    with pytest.raises(RepositoryError, match="the authority ends on"):
        new_certificate(old, [f"*.{DOMAIN}"])


def test_the_domain_of_an_authority_is_read_back() -> None:
    assert domain_of(AUTHORITY.certificate) == DOMAIN
    assert domain_of(new_certificate(AUTHORITY, [DOMAIN]).certificate) == ""


def test_a_pair_that_no_server_can_use_is_refused() -> None:
    one, other = (new_certificate(AUTHORITY, [f"*.{DOMAIN}"]) for _ in range(2))
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=400)
    old = new_certificate(new_authority(DOMAIN, past), [f"*.{DOMAIN}"], past)

    refuse_pair(*one)
    for pair, what in (
        (Pair(one.certificate, other.key), "not that of the certificate"),
        (Pair("", one.key), "not a PEM certificate"),
        (Pair(one.certificate, "key"), "not an unencrypted PEM private key"),
        (old, "ended on"),
    ):
        with pytest.raises(RepositoryError, match=what):
            refuse_pair(*pair)
