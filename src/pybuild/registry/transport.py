"""HTTP to one registry: TLS, plain HTTP where it is allowed, tokens, retries, redirects without credentials. Blocking, any thread."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx

from pybuild.errors import AuthError, NotFoundError, RegistryError, TLSError
from pybuild.registry.challenges import Challenge, choose_challenge
from pybuild.registry.connections import Connections
from pybuild.registry.credentials import Credentials, CredentialStore
from pybuild.registry.options import RegistryOptions
from pybuild.registry.proxies import as_address, is_loopback, proxies_from
from pybuild.registry.retries import RETRY_STATUS, pause
from pybuild.registry.routes import Routes
from pybuild.registry.tls import make_context
from pybuild.registry.tokens import Tokens
from pybuild.version import VERSION

HUB = "index.docker.io"
HUB_ADDRESS = "registry-1.docker.io"
REDIRECTS = 5
MOVED = frozenset({301, 302, 303, 307, 308})
ERROR_LIMIT = 64 << 10


def user_agent(env: Mapping[str, str]) -> str:
    """``pybuild/VERSION``, and what ``UPSTREAM_CLIENT_TYPE`` adds."""
    more = env.get("UPSTREAM_CLIENT_TYPE", "")
    return f"pybuild/{VERSION}" + (f",{more}" if more.isascii() and more.isprintable() and more else "")


def is_private(host: str) -> bool:
    """Whether a host is this machine or, by its address or name, in a private network: where plain HTTP is tried, as kaniko does."""
    name = hostname(host)
    if is_loopback(name) or name.endswith(".local"):
        return True
    address = as_address(name)
    return address is not None and address.is_private


def hostname(host: str) -> str:
    """``host[:port]`` without the port, ``[::1]`` without its brackets."""
    return (urlsplit(f"//{host}").hostname or "").lower()


class Transport:
    """Requests to one registry. ``plain`` allows HTTP where TLS is not spoken, ``verify`` has certificates verified; ``wait`` sleeps
    and raises when the build ends."""

    def __init__(
        self,
        host: str,
        options: RegistryOptions,
        credentials: CredentialStore,
        *,
        plain: bool,
        verify: bool,
        wait: Callable[[float], None],
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.host = host
        self.address = HUB_ADDRESS if host == HUB else host
        self._options = options
        self._credentials = credentials
        self._plain = plain
        self._verify = verify
        self._wait = wait
        self._scheme = ""
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens = Tokens(host, self._ask_for_token)
        self._connections = Connections()
        self._client = httpx.Client(
            transport=Routes(proxies_from(env), self._context, self._connections),
            timeout=httpx.Timeout(options.stall, connect=30.0),
            headers={"User-Agent": user_agent(env), "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )

    def break_off(self) -> None:
        """End what is under way: requests of other threads fail at once."""
        self._connections.break_off()

    def close(self) -> None:
        self._client.close()

    def _context(self) -> ssl.SSLContext:
        return make_context(self._options, self.host, verify=self._verify)

    # --- which scheme ------------------------------------------------------------------------------------------------

    def base(self) -> str:
        """``https://host`` or, where that is allowed and TLS is not spoken, ``http://host``. Asks ``/v2/`` once.

        Raises ``TLSError`` or ``RegistryError``."""
        with self._lock:
            if not self._scheme:
                self._scheme = self._ping()
            return f"{self._scheme}://{self.address}"

    def _schemes(self) -> tuple[str, ...]:
        if not self._plain:
            return ("https",)
        # bytes to this machine can be seen by nobody else, and authorities take a while to load
        local = is_loopback(hostname(self.address)) and self.host not in self._options.certificates
        return ("http", "https") if local else ("https", "http")

    def _ping(self) -> str:
        failure: RegistryError | None = None
        refused = 0
        for attempt in range(self._options.attempts):
            retry_after = ""
            for scheme in self._schemes():
                try:
                    response = self._client.get(f"{scheme}://{self.address}/v2/")
                except httpx.InvalidURL:
                    raise RegistryError(f"{self.host} is no host of a registry") from None
                except httpx.TransportError as e:
                    failure = worse(failure, translate(e, self.host))
                    refused += "refused" in str(e).lower()
                    continue
                status = response.status_code
                if status in RETRY_STATUS:
                    failure = worse(failure, RegistryError(f"registry {self.host} answered with status {status}"))
                    retry_after = response.headers.get("Retry-After", "")
                elif scheme == "http" and (status == 400 or status in MOVED):
                    # a server that speaks TLS at this port
                    failure = worse(failure, RegistryError(f"registry {self.host} answered with status {status}"))
                else:
                    if status == 401:
                        self._challenge = choose_challenge(response.headers.get_list("WWW-Authenticate"))
                    return scheme
            final = isinstance(failure, TLSError) and (not self._plain or "verified" in failure.message)
            if final or refused >= 2 * len(self._schemes()) or is_unknown_host(failure):
                break
            if attempt < self._options.attempts - 1:
                self._wait(pause(attempt, self._options.backoff, retry_after))
        assert failure is not None
        raise failure

    # --- authorization ------------------------------------------------------------------------------------------------

    def _authorization(self, scopes: tuple[str, ...], refused: str) -> str:
        """The Authorization header for scopes, ``""`` when the registry wants none. ``refused`` is one that it did not take."""
        challenge = self._challenge
        if challenge is None:
            return ""
        repository = repository_of(scopes)
        if refused:
            self._credentials.forget(self.host, repository)
        found = self._credentials.find(self.host, repository)
        if challenge.kind == "basic":
            if found is None:
                raise self._refused("wants a user and password", found)
            return found.basic
        if found is not None and found.registry_token:
            return f"Bearer {found.registry_token}"
        self._check_realm(challenge.realm)
        try:
            return f"Bearer {self._tokens.get(challenge, scopes, found, refused.removeprefix('Bearer '))}"
        except AuthError as e:
            raise AuthError(e.message, hint=self._credentials.looked_at(found)) from None

    def _check_realm(self, realm: str) -> None:
        """Credentials go to the token service: not over plain HTTP when the registry speaks TLS, and not to a machine of the private
        network that a registry outside of it names."""
        parts = urlsplit(realm)
        plain = parts.scheme == "http" and self._scheme == "http"
        if not (parts.scheme == "https" or plain) or not parts.hostname or self._is_inside(parts.hostname):
            shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
            raise RegistryError(f"registry {self.host} names a token service that cannot be used: {shown[:200]!r}")

    def _is_inside(self, name: str) -> bool:
        """Whether a name is an address of this machine or of a private network though the registry's is none."""
        address = as_address(name)
        inside = is_loopback(name.lower()) or (address is not None and (address.is_private or address.is_link_local))
        return inside and name.lower() != hostname(self.address) and not is_private(self.address)

    def _ask_for_token(
        self, method: str, url: str, query: list[tuple[str, str]], headers: Mapping[str, str], form: dict[str, str] | None
    ) -> httpx.Response:
        target = httpx.URL(url)
        for name, value in query:
            target = target.copy_add_param(name, value)
        return self._retrying(lambda: self._client.request(method, target, headers=headers, data=form))

    def _refused(self, what: str, found: Credentials | None) -> AuthError:
        return AuthError(f"registry {self.host} {what} (unauthorized)", hint=self._credentials.looked_at(found))

    # --- requests -----------------------------------------------------------------------------------------------------

    def _retrying(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask until there is an answer that another try would not better, or no try is left. ``RegistryError`` without an answer."""
        attempts = self._options.attempts
        for attempt in range(attempts):
            retry_after = ""
            try:
                response = ask()
            except httpx.TransportError as e:
                failure = translate(e, self.host)
                if attempt == attempts - 1 or isinstance(failure, TLSError) or is_unknown_host(failure):
                    raise failure from None
            else:
                if response.status_code not in RETRY_STATUS or attempt == attempts - 1:
                    return response
                retry_after = response.headers.get("Retry-After", "")
                response.close()
            self._wait(pause(attempt, self._options.backoff, retry_after))
        raise RegistryError(f"registry {self.host} was not asked")

    def request(
        self,
        method: str,
        path: str,
        *,
        scope: str,
        more_scopes: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Any] | None = None,
        stream: bool = False,
        retry: bool = True,
        renew: bool = True,
    ) -> httpx.Response:
        """One request, authorized for ``scope``; ``path`` is below the registry or a whole URL.

        ``content`` makes the body anew for every try. A 401 is answered once with a fresh token (with ``renew``). Redirects are followed, without
        credentials where they lead to another host. With ``stream`` the body is not read: close the response. Raises ``AuthError`` for
        401 and 403, ``RegistryError`` when there is no answer; other statuses are the caller's."""
        url = self._absolute(urljoin(f"{self.base()}/", path))
        scopes = (scope, *more_scopes) if scope else ()
        sent = [""]
        refused = ""
        for last in (False, True) if renew else (True,):

            def ask(refused: str = refused) -> httpx.Response:
                return self._send(method, url, scopes, headers or {}, content, stream, refused, sent)

            response = self._retrying(ask) if retry else self._once(ask)
            if response.status_code != 401 or last:
                break
            challenge = choose_challenge(response.headers.get_list("WWW-Authenticate"))
            if challenge is None or response.request.url.host != httpx.URL(url).host:
                break
            self._challenge = challenge
            refused = sent[0] or "none"
            if challenge.kind == "basic" and sent[0] and self._authorization(scopes, refused) == sent[0]:
                # a second time would be a second failed login
                break
            response.close()
        if response.status_code in (401, 403):
            raise self._denied(method, scopes, path, response)
        return response

    def _denied(self, method: str, scopes: tuple[str, ...], path: str, response: httpx.Response) -> AuthError:
        detail = error_text(response)
        response.close()
        repository = repository_of(scopes)
        found = self._credentials.find(self.host, repository) if self._challenge is not None else None
        return self._refused(f"denied {method} for {repository or urlsplit(path).path}: status {response.status_code}{detail}", found)

    def _once(self, ask: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return ask()
        except httpx.TransportError as e:
            raise translate(e, self.host) from None

    def _absolute(self, url: str) -> str:
        """A URL that the registry gave. Behind a TLS proxy some registries call themselves ``http``: that is put right."""
        parts = urlsplit(url)
        if parts.scheme == "http" and self._scheme == "https" and parts.netloc == self.address:
            return urlunsplit(parts._replace(scheme="https"))
        if parts.scheme not in ("http", "https") or not parts.hostname or (parts.scheme == "http" and self._scheme == "https"):
            raise RegistryError(f"registry {self.host} leads to a place that cannot be used: {parts.scheme}://{parts.hostname or ''}")
        if self._is_inside(parts.hostname):
            raise RegistryError(f"registry {self.host} leads to a private address: {parts.hostname}")
        return url

    def _send(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str],
        content: Callable[[], Any] | None,
        stream: bool,
        refused: str,
        sent: list[str],
    ) -> httpx.Response:
        for _ in range(REDIRECTS + 1):
            fields = dict(headers)
            if self._is_ours(url):
                sent[0] = self._authorization(scopes, refused)
                if sent[0]:
                    fields["Authorization"] = sent[0]
            try:
                request = self._client.build_request(method, url, headers=fields, content=content() if content is not None else None)
            except httpx.InvalidURL:
                raise RegistryError(f"registry {self.host} leads to a place that cannot be used") from None
            response = self._client.send(request, stream=stream)
            followed = response.status_code in MOVED if method in ("GET", "HEAD") else response.status_code in (307, 308)
            if not followed or "Location" not in response.headers:
                return response
            response.close()
            url = self._absolute(urljoin(url, response.headers["Location"]))
        raise RegistryError(f"registry {self.host} redirects too often")

    def _is_ours(self, url: str) -> bool:
        """Whether a URL is of the registry itself: the only place that credentials go to."""
        parts, own = urlsplit(url), urlsplit(f"{self._scheme}://{self.address}")
        default = {"https": 443, "http": 80}[self._scheme]
        try:
            return (parts.scheme, parts.hostname, parts.port or default) == (own.scheme, own.hostname, own.port or default)
        except ValueError:
            return False


def repository_of(scopes: tuple[str, ...]) -> str:
    return scopes[0].split(":")[1] if scopes and scopes[0].count(":") >= 2 else ""


def worse(first: RegistryError | None, second: RegistryError) -> RegistryError:
    """Of two failures the one to tell: a certificate says more than a connection, and what TLS said more than what plain HTTP did."""
    if isinstance(first, TLSError) and "verified" in first.message:
        return first
    return second


def is_unknown_host(failure: RegistryError | None) -> bool:
    return failure is not None and ("Name or service not known" in failure.message or "No address associated" in failure.message)


def translate(e: Exception, host: str) -> RegistryError:
    """An error of the connection in a user's words."""
    text = str(e) or type(e).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        return TLSError(
            f"the TLS certificate of registry {host} could not be verified: {text}",
            hint=f"give its authority with --registry-certificate {host}=FILE, or --skip-tls-verify-registry {host}",
        )
    if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER" in text or "HTTP_REQUEST" in text:
        return TLSError(f"registry {host} does not speak TLS: {text}", hint=f"allow plain HTTP with --insecure-registry {host}")
    if "ALERT" in text and ("CERTIFICATE" in text or "HANDSHAKE" in text):
        return TLSError(
            f"registry {host} refused the TLS connection: {text}", hint=f"it may want --registry-client-cert {host}=CERTIFICATE,KEY"
        )
    if isinstance(e, httpx.TimeoutException):
        return RegistryError(f"registry {host} did not answer in time: {type(e).__name__}")
    return RegistryError(f"cannot reach registry {host}: {text}")


def error_text(response: httpx.Response) -> str:
    """The first error that a registry's answer names, for a message."""
    with contextlib.suppress(Exception):
        data = b""
        if response.is_stream_consumed:
            data = response.content
        else:
            for piece in response.iter_raw():
                data += piece
                if len(data) > ERROR_LIMIT:
                    break
        first = json.loads(data)["errors"][0]
        text = f": {first.get('code', '')} {first.get('message', '')}".rstrip()[:300]
        return text if text.isprintable() else ""
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
