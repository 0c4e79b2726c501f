"""Credentials from Docker's configuration: ``auths``, ``credHelpers``, ``credsStore``, and from the environment.

Values never reach a log, an error or the text of an object. The files are read once, at the start, before any instruction runs.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pybuild.errors import AuthError

HUB = "index.docker.io"
HUB_KEYS = ("https://index.docker.io/v1/", "https://index.docker.io/v1", "index.docker.io", "docker.io", "registry-1.docker.io")
HELPER_TIMEOUT = 60
KANIKO_CONFIG = "/kaniko/.docker/config.json"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user and password; an identity token that is exchanged for access tokens; or an access token (``registry_token``).

    ``source`` says where they are from, for error messages."""

    user: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""
    source: str = ""

    @property
    def basic(self) -> str:
        """The header for Basic authorization."""
        text = f"<token>:{self.identity_token}" if self.identity_token else f"{self.user}:{self.password}"
        return "Basic " + base64.b64encode(text.encode()).decode()


def config_paths(env: Mapping[str, str]) -> list[str]:
    """Where a configuration may be; the first one that exists is used, as kaniko does."""
    home = env.get("HOME", "")
    found = []
    if env.get("DOCKER_CONFIG"):
        found.append(os.path.join(env["DOCKER_CONFIG"], "config.json"))
    found.append(KANIKO_CONFIG)
    if home:
        found.append(os.path.join(home, ".docker", "config.json"))
    if env.get("REGISTRY_AUTH_FILE"):
        found.append(env["REGISTRY_AUTH_FILE"])
    if env.get("XDG_RUNTIME_DIR"):
        found.append(os.path.join(env["XDG_RUNTIME_DIR"], "containers", "auth.json"))
    if env.get("XDG_CONFIG_HOME"):
        found.append(os.path.join(env["XDG_CONFIG_HOME"], "containers", "auth.json"))
    if home:
        found.append(os.path.join(home, ".config", "containers", "auth.json"))
    return list(dict.fromkeys(found))


class CredentialStore:
    """The configuration of this machine. An unreadable one is an error only when a registry wants credentials."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._documents: list[tuple[str, dict[str, Any]]] = []
        self._error: AuthError | None = None
        self._known: dict[tuple[str, str], Credentials | None] = {}
        self._lock = threading.Lock()
        try:
            self._read()
        except AuthError as e:
            self._error = e

    def _read(self) -> None:
        inline = self._env.get("DOCKER_AUTH_CONFIG")
        if inline:
            self._documents.append(("DOCKER_AUTH_CONFIG", parse(inline, "DOCKER_AUTH_CONFIG")))
        for path in config_paths(self._env):
            try:
                with open(path, encoding="utf-8", errors="replace") as f:
                    self._documents.append((path, parse(f.read(), path)))
                return
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as e:
                raise AuthError(f"cannot read {path}: {e.strerror}") from None

    def looked_at(self, found: Credentials | None) -> str:
        """Where the credentials are from, or where some were looked for: for error messages."""
        if found is not None:
            return f"the credentials are from {found.source}"
        if self._documents:
            return f"no credentials for it in {', '.join(path for path, _ in self._documents)}"
        return f"no credentials: there is none of {', '.join(config_paths(self._env))}"

    def find(self, registry: str, repository: str) -> Credentials | None:
        """The credentials for a repository, ``None`` when there are none. ``AuthError`` when the configuration or a helper fails."""
        if self._error is not None:
            raise self._error
        key = (registry, repository)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._look(registry, repository)
            return self._known[key]

    def forget(self, registry: str, repository: str) -> None:
        """Look again at the next ``find``: a helper's answer may have run out."""
        with self._lock:
            self._known.pop((registry, repository), None)

    def _look(self, registry: str, repository: str) -> Credentials | None:
        for path, document in self._documents:
            found = from_document(document, registry, repository, path, self._env)
            if found is not None:
                return found
        return from_environment(self._env, registry)


def parse(text: str, path: str) -> dict[str, Any]:
    """A configuration's document. The error neither quotes nor holds it."""
    document: Any = None
    readable = True
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        # the error is raised outside: the decoder's has the whole text
        readable = False
    if not isinstance(document, dict):
        raise AuthError(f"{path} is no JSON object" if readable else f"{path} is no JSON")
    return document


def section(document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def keys_of(registry: str, repository: str) -> list[str]:
    """The keys under which credentials may be, the most specific first: the repository, the paths above it, the registry."""
    parts = repository.split("/")
    hosts: Sequence[str] = HUB_KEYS if registry == HUB else (registry,)
    found = [f"{host}/{'/'.join(parts[:n])}" for n in range(len(parts), 0, -1) for host in hosts if not host.startswith("https:")]
    for host in hosts:
        if host.startswith("https:"):
            found.append(host)
        else:
            found += [host, f"https://{host}", f"https://{host}/", f"http://{host}", f"http://{host}/"]
            found += [f"https://{host}/v1/", f"https://{host}/v2/", f"https://{host}/v1", f"https://{host}/v2"]
    return found


def from_document(
    document: dict[str, Any], registry: str, repository: str, path: str, env: Mapping[str, str]
) -> Credentials | None:
    """The helper for the registry first, then the store, then the entries of the file."""
    keys = keys_of(registry, repository)
    helpers = section(document, "credHelpers")
    for key in keys:
        if isinstance(helpers.get(key), str):
            found = from_helper(helpers[key], key, path, env)
            if found is not None:
                return found
            break
    failure: AuthError | None = None
    store = document.get("credsStore")
    if isinstance(store, str) and store:
        try:
            found = from_helper(store, HUB_KEYS[0] if registry == HUB else registry, path, env)
            if found is not None:
                return found
        except AuthError as e:
            # a configuration from another machine may name its store and have the entry all the same
            failure = e
    auths = section(document, "auths")
    for key in keys:
        entry = auths.get(key)
        if isinstance(entry, dict):
            found = from_entry(entry, key, path)
            if found is not None:
                return found
    if failure is not None:
        raise failure
    return None


def from_entry(entry: dict[str, Any], key: str, path: str) -> Credentials | None:
    identity, registry = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    auth = entry.get("auth")
    if auth:
        try:
            text = base64.b64decode(str(auth), validate=False).decode()
        except (binascii.Error, UnicodeDecodeError, ValueError):
            raise AuthError(f"the entry for {key} in {path} has an auth value that is not base64") from None
        user, colon, password = text.partition(":")
        if not colon:
            raise AuthError(f"the entry for {key} in {path} has an auth value without a colon")
        password = password.rstrip("\0")
    if not (user or identity or registry):
        return None
    return Credentials(user, password, identity, registry, f"the entry {key} in {path}")


def from_helper(name: str, key: str, path: str, env: Mapping[str, str]) -> Credentials | None:
    """Ask ``docker-credential-NAME``; it gets the registry on its standard input and no shell is involved."""
    if "/" in name or not name:
        raise AuthError(f"{name!r} is no name of a credential helper")
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run([program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_TIMEOUT, check=False, env=dict(env))
    except FileNotFoundError:
        raise AuthError(f"the credential helper {program} for {key}, named in {path}, is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as e:
        raise AuthError(f"the credential helper {program} for {key} failed: {type(e).__name__}") from None
    if done.returncode:
        said = (done.stdout + done.stderr).lower()
        if b"credentials not found" in said or b"no credentials" in said:
            return None
        raise AuthError(f"the credential helper {program} for {key} failed with status {done.returncode}")
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise AuthError(f"the credential helper {program} for {key} gave an answer that cannot be read") from None
    if not secret:
        return None
    source = f"the credential helper {program}, named in {path}"
    return Credentials(identity_token=secret, source=source) if user == "<token>" else Credentials(user, secret, source=source)


def from_environment(env: Mapping[str, str], registry: str) -> Credentials | None:
    """``KANIKO_<HOST>_USER`` and ``_PASSWORD`` (host in upper case, ``.`` and ``-`` as ``_``; any suffix of the host, the longest
    first), then GitLab's ``CI_REGISTRY_USER`` and ``CI_REGISTRY_PASSWORD`` for the registry that ``CI_REGISTRY`` names."""
    parts = registry.partition(":")[0].upper().replace("-", "_").split(".")
    for n in range(len(parts)):
        name = "_".join(parts[n:])
        user, password = env.get(f"KANIKO_{name}_USER"), env.get(f"KANIKO_{name}_PASSWORD")
        if user and password:
            return Credentials(user, password, source=f"KANIKO_{name}_USER and KANIKO_{name}_PASSWORD")
    if env.get("CI_REGISTRY") == registry and env.get("CI_REGISTRY_USER") and env.get("CI_REGISTRY_PASSWORD"):
        return Credentials(env["CI_REGISTRY_USER"], env["CI_REGISTRY_PASSWORD"], source="CI_REGISTRY_USER and CI_REGISTRY_PASSWORD")
    return None
