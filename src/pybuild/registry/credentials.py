"""Credentials from Docker's configuration: ``auths``, ``credHelpers``, ``credsStore``. Values never reach a log or an error."""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pybuild.errors import AuthError

HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
HELPER_TIMEOUT = 60


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user and password, or an identity token (``token``) that is exchanged for access tokens."""

    user: str = ""
    password: str = ""
    token: str = ""


def config_paths(env: Mapping[str, str]) -> list[str]:
    """Where a configuration may be, in the order they are looked at."""
    found = []
    if env.get("DOCKER_CONFIG"):
        found.append(os.path.join(env["DOCKER_CONFIG"], "config.json"))
    found.append("/kaniko/.docker/config.json")
    if env.get("HOME"):
        found.append(os.path.join(env["HOME"], ".docker", "config.json"))
    if env.get("REGISTRY_AUTH_FILE"):
        found.append(env["REGISTRY_AUTH_FILE"])
    if env.get("XDG_RUNTIME_DIR"):
        found.append(os.path.join(env["XDG_RUNTIME_DIR"], "containers", "auth.json"))
    return list(dict.fromkeys(found))


class CredentialStore:
    """The configurations of this machine, read once."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._documents: list[tuple[str, dict[str, Any]]] = []
        inline = env.get("DOCKER_AUTH_CONFIG")
        if inline:
            self._documents.append(("DOCKER_AUTH_CONFIG", parse(inline, "DOCKER_AUTH_CONFIG")))
        for path in config_paths(env):
            try:
                with open(path, encoding="utf-8") as f:
                    self._documents.append((path, parse(f.read(), path)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as e:
                raise AuthError(f"cannot read {path}: {e.strerror}") from None

    def looked_at(self) -> str:
        """The places that were found, for error messages."""
        return ", ".join(path for path, _ in self._documents) or "no Docker configuration was found"

    def find(self, registry: str, repository: str) -> Credentials | None:
        """The credentials for a repository: entries for its path first, then the registry's; ``None`` when there are none."""
        for path, document in self._documents:
            found = from_document(document, registry, repository, path)
            if found is not None:
                return found
        return None


def parse(text: str, path: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as e:
        raise AuthError(f"{path} is no JSON: {e}") from None
    if not isinstance(document, dict):
        raise AuthError(f"{path} is no JSON object")
    return document


def keys_of(registry: str, repository: str) -> list[str]:
    """The keys under which credentials may be, the most specific first."""
    parts = repository.split("/")
    hosts: Sequence[str] = HUB_KEYS if registry == "index.docker.io" else (registry,)
    found = [f"{host}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1) for host in hosts if not host.startswith("https:")]
    for host in hosts:
        found += [host] if host.startswith("https:") else [host, f"https://{host}", f"https://{host}/", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]
    return found


def from_document(document: dict[str, Any], registry: str, repository: str, path: str) -> Credentials | None:
    keys = keys_of(registry, repository)
    helpers = document.get("credHelpers") or {}
    for key in keys:
        if isinstance(helpers.get(key), str):
            return from_helper(helpers[key], key)
    auths = document.get("auths") or {}
    for key in keys:
        entry = auths.get(key)
        if isinstance(entry, dict) and entry:
            found = from_entry(entry, key, path)
            if found is not None:
                return found
    store = document.get("credsStore")
    if isinstance(store, str) and store:
        return from_helper(store, HUB_KEYS[0] if registry == "index.docker.io" else registry)
    return None


def from_entry(entry: dict[str, Any], key: str, path: str) -> Credentials | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    auth = entry.get("auth")
    if auth:
        try:
            text = base64.b64decode(str(auth)).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise AuthError(f"the entry for {key} in {path} has an auth value that is not base64") from None
        user, colon, password = text.partition(":")
        if not colon:
            raise AuthError(f"the entry for {key} in {path} has an auth value without a colon")
    if not (user or token):
        return None
    return Credentials(user, password.rstrip("\0"), token)


def from_helper(name: str, key: str) -> Credentials | None:
    """Ask ``docker-credential-NAME``; it gets the registry on its standard input and no shell is involved."""
    if "/" in name or not name:
        raise AuthError(f"{name!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False)
    except FileNotFoundError:
        raise AuthError(f"the credential helper {program} for {key} is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as e:
        raise AuthError(f"the credential helper {program} for {key} failed: {type(e).__name__}") from None
    if done.returncode:
        if b"credentials not found" in done.stdout + done.stderr:
            return None
        raise AuthError(f"the credential helper {program} for {key} failed with status {done.returncode}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise AuthError(f"the credential helper {program} for {key} gave an answer that cannot be read") from None
    return Credentials(token=secret) if user == "<token>" else Credentials(user, secret)
