"""A refusal names the part of an answer that is wrong, and no regular expression."""

from __future__ import annotations

import pytest

from homelab_mlops.errors import RepositoryError
from homelab_mlops.gitops.init import new_settings
from homelab_mlops.gitops.origin import readable
from homelab_mlops.gitops.settings import load_settings
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("domain", "192.168.1.5", "it is an IP address, below which no names exist"),
        ("domain", "[fe80::1]", "IP address"),
        ("domain", "10.0.0.5:443", "IP address"),
        ("domain", "10.0.0.256", "'256', is a number"),
        ("domain", "https://home.example.org", "https:// belongs to an address"),
        ("domain", "home.example.org:8443", "':8443' is a port"),
        ("domain", "home.example.org/lab", "'/lab' is a path"),
        ("domain", "*.home.example.org", "leave out '*.'"),
        ("domain", "home.example.org.", "the dot at its end"),
        ("domain", "home..org", "nothing before, after or between its dots"),
        ("domain", "localhost", "it is one word"),
        ("domain", "Home.example.org", "the capital letter 'H'"),
        ("domain", "home_lab.example", "an underscore"),
        ("domain", "münchen.example", "'ü'"),
        ("domain", "-home.example", "'-home': it begins with a hyphen"),
        ("domain", f"{'a' * 64}.example", "64 characters"),
        ("domain", "", "it is empty"),
        ("repository", "github.com/me/homelab", "is it https://github.com/me/homelab?"),
        ("repository", "https://github.com", "no repository on it"),
        ("repository", "https://github.com/me/homelab/tree/main", "'/tree/main' is a page"),
        ("repository", "https://me:token@github.com/me/homelab.git", "a login before '@'"),
        ("repository", "/srv/git/homelab.git", "a folder of this machine"),
        ("repository", "file:///srv/git/homelab.git", "Argo CD cannot read file://"),
        ("repository", "https://git hub.com/me/homelab", "a space"),
        ("repository", "https://git_hub.com/me/homelab", "an underscore"),
        ("repository", "https://github.com:70000/me/homelab", "'70000' after the host is no port"),
        ("branch", "refs/heads/main", "leave out 'refs/heads/'"),
        ("branch", "my branch", "a space"),
        ("branch", "a..b", "'..'"),
        ("branch", "2026", "YAML reads it as a number"),
        ("storage_class", "Local Path", "the capital letter 'L'"),
        ("storage_class", "true", "YAML reads it as yes or no"),
        ("image_registry", "https://ghcr.io/me", "leave out https://"),
        ("image_registry", "ghcr.io/Me", "the capital letter 'M'"),
        ("image_registry", "ghcr.io/me:latest", "cannot stand in it"),
        ("ingress_namespace", "kube.system", "'.' cannot stand in it"),
        ("ingress_labels", "app.kubernetes.io/name", "is not key=value"),
        ("ingress_labels", "app=_x", "does not begin and end with a letter or digit"),
    ],
)
def test_a_refusal_names_the_part(name: str, value: str, part: str) -> None:
    with pytest.raises(RepositoryError, match="cannot be used: ") as error:
        new_settings(load_settings(ROOT), {name: value})
    assert part in error.value.what
    assert "token" not in str(error.value) or name != "repository" or "me:token" not in str(error.value)
    assert not any(mark in str(error.value) for mark in ("pattern", "[a-z", "^"))
    assert error.value.where == f"--{name.replace('_', '-')}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("domain", "192.168.1.5.nip.io"),
        ("domain", "home.arpa"),
        ("repository", "https://forge.home.arpa:3000/me/settings.git"),
        ("repository", "http://192.168.1.5:3000/me/homelab"),
        ("repository", "ssh://git@forge.home.arpa:2222/me/homelab.git"),
        ("repository", "git@github.com:me/homelab.git"),
        ("branch", "feature/x_1.2"),
        ("image_registry", "registry.home.arpa:5000/me"),
        ("image_registry", "192.168.1.5:5000/me"),
        ("ingress_labels", "app.kubernetes.io/name=traefik,release=a.b"),
    ],
)
def test_what_works_is_taken(name: str, value: str) -> None:
    assert getattr(new_settings(load_settings(ROOT), {name: value}), name) == value


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://git.example.net/bob/homelab.git", "https://git.example.net/bob/homelab.git"),
        ("https://bob:secret@git.example.net/bob/homelab.git/", "https://git.example.net/bob/homelab.git"),
        ("HTTPS://github.com/bob/homelab", "https://github.com/bob/homelab"),
        ("https://gitlab.com/bob/homelab", "https://gitlab.com/bob/homelab.git"),
        ("git@github.com:bob/homelab.git", "https://github.com/bob/homelab.git"),
        ("git@github.com:bob/homelab", "https://github.com/bob/homelab.git"),
        ("ssh://git@ssh.github.com:443/bob/homelab.git", "https://github.com/bob/homelab.git"),
        ("ssh://git@forge.home.arpa:2222/bob/homelab.git", "https://forge.home.arpa/bob/homelab.git"),
        ("forge:bob/homelab.git", ""),
        ("/srv/git/homelab.git", ""),
        ("../homelab", ""),
        ("file:///srv/git/homelab.git", ""),
        ("", ""),
    ],
)
def test_origin_becomes_what_argo_cd_reads(remote: str, address: str) -> None:
    assert readable(remote) == address
