"""Access tokens of a registry's token service, one for each set of scopes, renewed before they end.

The protocol is the distribution project's "token authentication" with its OAuth2 variant for identity tokens.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

from pybuild.errors import AuthError, RegistryError
from pybuild.registry.challenges import Challenge
from pybuild.registry.credentials import Credentials

CLIENT_ID = "pybuild"
ANSWER_LIMIT = 64 << 10
#: an answer that names no end is valid for a minute, says the specification
SECONDS = 60.0

#: method, URL, parameters of the query, headers, form → the answer, tried again where that helps
Ask = Callable[[str, str, list[tuple[str, str]], Mapping[str, str], dict[str, str] | None], httpx.Response]


@dataclass(slots=True)
class Slot:
    """The token for one set of scopes; the lock has one thread fetch it while the others wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    until: float = 0.0


class Tokens:
    """The tokens of one registry."""

    def __init__(self, host: str, ask: Ask) -> None:
        self._host = host
        self._ask = ask
        self._slots: dict[tuple[str, ...], Slot] = {}
        self._lock = threading.Lock()

    def get(self, challenge: Challenge, scopes: tuple[str, ...], found: Credentials | None, refused: str = "") -> str:
        """A token for the scopes. ``refused`` is one that the registry did not take: it is not given out again.

        Raises ``AuthError`` when the service refuses, ``RegistryError`` when it answers with nonsense or not at all."""
        with self._lock:
            slot = self._slots.setdefault(scopes, Slot())
        with slot.lock:
            if slot.token and slot.token != refused and time.monotonic() < slot.until:
                return slot.token
            slot.token, seconds = self._fetch(challenge, scopes, found)
            # renewed a little before the end, so that a request under way does not meet it
            slot.until = time.monotonic() + max(1.0, seconds - min(30.0, seconds * 0.2))
            return slot.token

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...], found: Credentials | None) -> tuple[str, float]:
        if found is not None and found.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": found.identity_token, "client_id": CLIENT_ID}
            if challenge.service:
                form["service"] = challenge.service
            if scopes:
                form["scope"] = " ".join(scopes)
            response = self._ask("POST", challenge.realm, [], {}, form)
            if response.status_code not in (404, 405):
                return self._read(response)
            # a service without OAuth2
        query = [("service", challenge.service)] if challenge.service else []
        query += [("scope", scope) for scope in scopes]
        headers = {"Authorization": found.basic} if found is not None else {}
        return self._read(self._ask("GET", challenge.realm, query, headers, None))

    def _read(self, response: httpx.Response) -> tuple[str, float]:
        if response.status_code in (400, 401, 403):
            raise AuthError(f"the token service of registry {self._host} refused a token with status {response.status_code} (unauthorized)")
        if response.status_code != 200:
            raise RegistryError(f"the token service of registry {self._host} answered with status {response.status_code}")
        try:
            if len(response.content) > ANSWER_LIMIT:
                raise ValueError
            answer = json.loads(response.content)
            token = str(answer.get("token") or answer["access_token"])
            seconds = float(answer.get("expires_in") or SECONDS)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise RegistryError(f"the token service of registry {self._host} gave an answer that cannot be read") from None
        if not token.isascii() or not token.isprintable() or " " in token:
            raise RegistryError(f"the token service of registry {self._host} gave a token that cannot be sent")
        return token, seconds
