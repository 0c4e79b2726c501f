"""Which entry of a configuration is for a repository."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from pybuild.errors import AuthError
from pybuild.registry.credentials import CredentialStore, config_paths

HUB = "index.docker.io"


def auth(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:pw:{user}".encode()).decode()}


def store(tmp_path: Path, document: object, **env: str) -> CredentialStore:
    (tmp_path / "config.json").write_text(json.dumps(document))
    return CredentialStore({"DOCKER_CONFIG": str(tmp_path), **env})


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "https://docker.io", "registry-1.docker.io"])
def test_docker_hub_by_any_of_its_names(tmp_path: Path, key: str) -> None:
    found = store(tmp_path, {"auths": {key: auth("me")}}).find(HUB, "library/app")
    assert found is not None
    assert (found.user, found.password) == ("me", "pw:me")


def test_the_narrowest_entry_wins(tmp_path: Path) -> None:
    entries = {"r.example": auth("all"), "r.example/team": auth("team"), "r.example/team/app": auth("app"), "https://other.example/v2/": auth("other")}
    credentials = store(tmp_path, {"auths": entries})
    for registry, repository, user in (
        ("r.example", "team/app", "app"), ("r.example", "team/app/x", "app"), ("r.example", "team/b", "team"), ("r.example", "teams/b", "all"),
        ("other.example", "x", "other"), ("r.example:5000", "team/app", None), ("example", "x", None),
    ):  # fmt: skip
        found = credentials.find(registry, repository)
        assert (found.user if found else None) == user


def test_the_first_file_that_exists_is_the_configuration(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {"r.example": auth("home")}}))
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {"r.example": auth("podman")}}))
    env = {"HOME": str(home), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "DOCKER_CONFIG": str(tmp_path / "none")}
    found = CredentialStore(env).find("r.example", "x")
    assert found is not None
    assert found.user == "home"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")
    assert CredentialStore(env).find("r.example", "x") is None
    assert config_paths(env)[0] == str(tmp_path / "none" / "config.json")


def test_inline_configuration_wins(tmp_path: Path) -> None:
    credentials = store(tmp_path, {"auths": {"r.example": auth("file")}}, DOCKER_AUTH_CONFIG=json.dumps({"auths": {"r.example": auth("inline")}}))
    found = credentials.find("r.example", "x")
    assert found is not None
    assert found.user == "inline"


@pytest.mark.parametrize("entry", [{"auth": "!!"}, {"auth": base64.b64encode(b"no colon").decode()}])
def test_malformed_entry_is_named_and_not_shown(tmp_path: Path, entry: dict[str, str]) -> None:
    with pytest.raises(AuthError, match=r"the entry for r\.example in .*config\.json") as caught:
        store(tmp_path, {"auths": {"r.example": entry}}).find("r.example", "x")
    assert entry["auth"] not in str(caught.value)


@pytest.mark.parametrize("document", [{"auths": []}, {"auths": {"r.example": 5}}, {"auths": {"r.example": {}}}, {"credHelpers": 5, "credsStore": 5}, {}])
def test_odd_documents_have_no_credentials(tmp_path: Path, document: object) -> None:
    assert store(tmp_path, document).find("r.example", "x") is None
