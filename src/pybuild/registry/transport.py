"""HTTP to one registry: TLS, plain HTTP where it is allowed, tokens, retries, redirects without credentials. Blocking, any thread."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from pybuild.errors import AuthError, NotFoundError, RegistryError, TLSError
from pybuild.registry.connections import Connections
from pybuild.registry.credentials import Credentials, CredentialStore
from pybuild.registry.options import RegistryOptions

USER_AGENT = "pybuild"
RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
ATTEMPTS = 5
REDIRECTS = 5
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"|([a-zA-Z_]+)=([^\s,"]+)')


def is_local(host: str) -> bool:
    """Whether a host is this machine or in a private network, for which plain HTTP is tried as go-containerregistry does."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith((".localhost", ".local")):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def pause(attempt: int, retry_after: str = "") -> float:
    """Seconds before the next try: what the server asks for (at most a minute), else doubling with jitter."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(60.0, float(retry_after))
    return float(min(30.0, 0.2 * 2.0**attempt) * (0.5 + random.random() / 2))


class Transport:
    """Requests to one registry. ``pull`` and ``push`` decide whether plain HTTP and unverified certificates are allowed."""

    def __init__(self, host: str, options: RegistryOptions, credentials: CredentialStore, *, push: bool, wait: Callable[[float], None]) -> None:
        self.host = host
        self.address = "registry-1.docker.io" if host == "index.docker.io" else host
        self._options = options
        self._credentials = credentials
        self._wait = wait
        self._plain_allowed = (
            host in options.insecure_registries or (options.insecure if push else options.insecure_pull) or options.insecure or is_local(host)
        )
        self._scheme = "https"
        self._lock = threading.Lock()
        self._known = False
        self._tokens: dict[str, tuple[str, float]] = {}
        self._challenge: tuple[str, dict[str, str]] | None = None
        self._client = httpx.Client(
            verify=self._verification(),
            http2=False,
            timeout=httpx.Timeout(60.0, connect=30.0),
            headers={"User-Agent": USER_AGENT},
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=32),
            follow_redirects=False,
        )
        self._connections = Connections()
        self._connections.watch(self._client)

    def break_off(self) -> None:
        """End what is under way: requests of other threads fail at once."""
        self._connections.break_off()

    def close(self) -> None:
        self._client.close()

    def _verification(self) -> Any:
        import ssl

        options = self._options
        if options.skip_tls_verify or options.skip_tls_verify_pull or self.host in options.skip_tls_verify_registries:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.host in options.certificates:
                context.load_verify_locations(options.certificates[self.host])
            if self.host in options.client_certificates:
                context.load_cert_chain(*options.client_certificates[self.host])
        except (OSError, ssl.SSLError) as e:
            raise TLSError(f"the certificate for {self.host} cannot be read: {e}") from None
        return context

    # --- which scheme ------------------------------------------------------------------------------------------------

    def base(self) -> str:
        """``https://host`` or, where that is allowed and TLS is not spoken, ``http://host``. Asks ``/v2/`` once."""
        with self._lock:
            if not self._known:
                self._ping()
                self._known = True
            return f"{self._scheme}://{self.address}"

    def _ping(self) -> None:
        error: Exception | None = None
        for scheme in ("https", "http") if self._plain_allowed else ("https",):
            for attempt in range(ATTEMPTS if scheme == "http" or not self._plain_allowed else 1):
                try:
                    response = self._client.get(f"{scheme}://{self.address}/v2/")
                except httpx.TransportError as e:
                    error = e
                    if is_tls_refusal(e) or isinstance(e, httpx.ConnectError):
                        break
                    self._wait(pause(attempt))
                    continue
                if response.status_code in RETRY_STATUS and attempt < ATTEMPTS - 1:
                    self._wait(pause(attempt, response.headers.get("Retry-After", "")))
                    continue
                self._scheme = scheme
                if response.status_code == 401:
                    self._challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
                return
            if error is not None and scheme == "https" and "CERTIFICATE_VERIFY_FAILED" in str(error):
                break
        assert error is not None
        raise translate(error, self.host)

    # --- authorization ------------------------------------------------------------------------------------------------

    def _authorization(self, scope: str, *, fresh: bool) -> str:
        """The Authorization header for a scope, ``""`` when the registry wants none."""
        if self._challenge is None:
            return ""
        kind, values = self._challenge
        repository = scope.split(":")[1] if scope.count(":") >= 2 else ""
        found = self._credentials.find(self.host, repository)
        if kind == "basic":
            if found is None:
                raise self._refused("wants a user and password, and there are none for it")
            return basic(found)
        with self._lock:
            token, until = self._tokens.get(scope, ("", 0.0))
            if token and not fresh and time.monotonic() < until:
                return f"Bearer {token}"
            token, until = self._fetch_token(values, scope, found)
            self._tokens[scope] = (token, until)
            return f"Bearer {token}"

    def _fetch_token(self, values: Mapping[str, str], scope: str, found: Credentials | None) -> tuple[str, float]:
        realm = values.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("https", "http") or not parts.hostname or (parts.scheme == "http" and self._scheme == "https"):
            raise RegistryError(f"registry {self.host} names a token service that cannot be used: {realm!r}")
        parameters = {"scope": scope} if scope else {}
        if values.get("service"):
            parameters["service"] = values["service"]

        def ask() -> httpx.Response:
            if found is not None and found.token:
                form = {"grant_type": "refresh_token", "refresh_token": found.token, "client_id": USER_AGENT, **parameters}
                return self._client.post(realm, data=form)
            headers = {"Authorization": basic(found)} if found is not None else {}
            return self._client.get(realm, params=parameters, headers=headers)

        response = self._retrying(ask, f"the token service of {self.host}")
        if response.status_code in (400, 401, 403):
            raise self._refused(f"refused a token (status {response.status_code})")
        if response.status_code != 200:
            raise RegistryError(f"the token service of {self.host} answered with status {response.status_code}")
        try:
            answer = response.json()
            token = answer.get("token") or answer["access_token"]
            seconds = float(answer.get("expires_in") or 60)
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RegistryError(f"the token service of {self.host} gave an answer that cannot be read") from None
        return str(token), time.monotonic() + max(10.0, seconds * 0.8)

    def _refused(self, what: str) -> AuthError:
        return AuthError(
            f"registry {self.host} {what} (unauthorized)",
            hint=f"credentials were looked for in: {self._credentials.looked_at()}",
        )

    # --- requests -----------------------------------------------------------------------------------------------------

    def _retrying(self, ask: Callable[[], httpx.Response], what: str) -> httpx.Response:
        """Ask until there is an answer that another try would not better."""
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                response = ask()
            except httpx.TransportError as e:
                if last or is_tls_refusal(e):
                    raise translate(e, self.host) from None
                self._wait(pause(attempt))
                continue
            if response.status_code not in RETRY_STATUS or last:
                return response
            response.close()
            self._wait(pause(attempt, response.headers.get("Retry-After", "")))
        raise RegistryError(f"{what} did not answer")

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Any] | None = None,
        stream: bool = False,
        retry: bool = True,
    ) -> httpx.Response:
        """One request, authorized for ``scope``; ``path`` is below the registry or a whole URL. ``content`` makes the body anew for
        every try. A 401 is answered once with a fresh token. Redirects are followed without credentials to other hosts.
        With ``stream`` the body is not read: close the response. Raises ``AuthError`` for 401 and 403, ``RegistryError``."""
        base = self.base()
        url = urljoin(f"{base}/", path)
        fresh = False
        for _ in range(2):

            def ask(fresh: bool = fresh) -> httpx.Response:
                return self._send(method, url, scope, headers or {}, content, stream, fresh)

            response = self._retrying(ask, self.host) if retry else self._once(ask)
            if response.status_code != 401 or fresh:
                break
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            if challenge:
                self._challenge = parse_challenge(challenge)
            fresh = True
        if response.status_code in (401, 403):
            detail = error_text(response)
            response.close()
            raise self._refused(f"denied {method} for {scope.split(':')[1] if ':' in scope else path}: status {response.status_code}{detail}")
        return response

    def _once(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return ask()
        except httpx.TransportError as e:
            raise translate(e, self.host) from None

    def _send(
        self, method: str, url: str, scope: str, headers: Mapping[str, str], content: Callable[[], Any] | None, stream: bool, fresh: bool
    ) -> httpx.Response:
        for _ in range(REDIRECTS + 1):
            sent = dict(headers)
            if self._is_ours(url):
                authorization = self._authorization(scope, fresh=fresh)
                if authorization:
                    sent["Authorization"] = authorization
            request = self._client.build_request(method, url, headers=sent, content=content() if content is not None else None)
            response = self._client.send(request, stream=stream)
            if response.status_code not in (301, 302, 303, 307, 308) or "Location" not in response.headers or method not in ("GET", "HEAD"):
                return response
            target = urljoin(url, response.headers["Location"])
            response.close()
            if urlsplit(target).scheme not in ("https", "http") or (url.startswith("https:") and target.startswith("http:")):
                raise RegistryError(f"registry {self.host} redirects to a place that cannot be used")
            url = target
        raise RegistryError(f"registry {self.host} redirects too often")

    def _is_ours(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.netloc == self.address and parts.scheme == self._scheme


def basic(found: Credentials) -> str:
    text = f"{found.user}:{found.password}" if not found.token else f"<token>:{found.token}"
    return "Basic " + base64.b64encode(text.encode()).decode()


def parse_challenge(header: str) -> tuple[str, dict[str, str]] | None:
    """The first Bearer or Basic challenge of a WWW-Authenticate header."""
    kind, _, rest = header.strip().partition(" ")
    if kind.lower() not in ("bearer", "basic"):
        return None
    values = {(m[0] or m[2]).lower(): m[1] or m[3] for m in _CHALLENGE.findall(rest)}
    return kind.lower(), values


def is_tls_refusal(e: Exception) -> bool:
    text = str(e)
    return "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text or ("SSL" in text and "WRONG_VERSION" in text)


def translate(e: Exception, host: str) -> RegistryError:
    """An error of the connection in a user's words."""
    text = str(e) or type(e).__name__
    if "CERTIFICATE" in text.upper() and "VERIFY" in text.upper():
        return TLSError(
            f"the TLS certificate of registry {host} could not be verified: {text}",
            hint=f"give its authority with --registry-certificate {host}=FILE, or --skip-tls-verify-registry {host}",
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text:
        return TLSError(f"registry {host} does not speak TLS: {text}", hint=f"allow plain HTTP with --insecure-registry {host}")
    if isinstance(e, httpx.TimeoutException):
        return RegistryError(f"registry {host} did not answer in time: {type(e).__name__}")
    return RegistryError(f"cannot reach registry {host}: {text}")


def error_text(response: httpx.Response) -> str:
    """The first error that a registry's answer names, for a message."""
    with contextlib.suppress(Exception):
        response.read()
        first = response.json()["errors"][0]
        return f": {first.get('code', '')} {first.get('message', '')}".rstrip()[:300]
    return ""


def expect(response: httpx.Response, wanted: tuple[int, ...], what: str, host: str) -> httpx.Response:
    """The response itself when its status is one of ``wanted``; ``NotFoundError`` for 404, ``RegistryError`` otherwise."""
    if response.status_code in wanted:
        return response
    detail = error_text(response)
    response.close()
    if response.status_code == 404:
        raise NotFoundError(f"{what} was not found in registry {host}{detail}")
    raise RegistryError(f"registry {host} answered {what} with status {response.status_code}{detail}")


@contextlib.contextmanager
def closing(response: httpx.Response) -> Iterator[httpx.Response]:
    try:
        yield response
    finally:
        response.close()


def environment() -> Mapping[str, str]:
    return os.environ
