"""Reads files of other servers over https, from allowed hosts at public addresses only."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import httpx

from tailorbird.service.ports import Fetched, WebBroken, WebRefused

MAX_REDIRECTS = 5
MAX_URL = 8_192
MAX_SECONDS = 3_600
"""Of one answer: a server that hands out a byte a minute must not hold a thread for ever."""
_TIMEOUT = httpx.Timeout(10.0, read=60.0)
_BUSY = frozenset({408, 425, 429})
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> list[str]:
    """The host's addresses, as the system answers them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class HttpWeb:
    """`hosts` are names or `*.suffix` patterns, none for every host; `private` opens http and non-public addresses.

    A connection goes to the very address that was checked, under the name it was checked for: a name that answers
    differently the second time leads nowhere. Proxies of the environment are not used, as they would resolve again.
    """

    def __init__(
        self,
        hosts: Sequence[str] = (),
        *,
        private: bool = False,
        resolve: Resolve = resolve,
        trust: Callable[[], ssl.SSLContext] = httpx.create_ssl_context,
    ) -> None:
        self._hosts = tuple(host.lower().rstrip(".") for host in hosts)
        self._private = private
        self._resolve = resolve
        self._trust = trust
        # Both write the URL of each request, and with it the signature in its query.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def check(self, url: str) -> None:
        self._checked(url)

    @contextmanager
    def open(self, url: str, start: int, version: str | None) -> Generator[Fetched]:
        with ExitStack() as stack:
            response, asked = self._follow(stack, self._checked(url), start if version is not None else 0, version)
            if asked and _changed(response, asked, version):
                # Some servers do not know If-Range and answer with a part of what is another file by now.
                stack.close()
                response, asked = self._follow(stack, self._checked(url), 0, None)
            yield _fetched(response, asked)

    def _checked(self, text: str) -> httpx.URL:
        """Raises WebRefused."""
        if len(text) > MAX_URL:
            raise WebRefused(f"The URL is longer than {MAX_URL} characters.")
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError):
            raise WebRefused("The URL is not well-formed.") from None
        schemes = ("https", "http") if self._private else ("https",)
        if url.scheme not in schemes:
            raise WebRefused(f"The URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
        if not url.host:
            raise WebRefused("The URL names no host.")
        if url.userinfo:
            raise WebRefused("The URL holds a user name or password; use a signed URL instead.")
        if self._hosts and not any(_matches(url.host, pattern) for pattern in self._hosts):
            raise WebRefused(f"Files are not imported from {url.host}; the operator's list of hosts does not name it.")
        literal = _literal(url.host)
        if literal is not None and not self._may_reach(literal):
            raise _not_public(url.host)
        return url

    def _follow(self, stack: ExitStack, url: httpx.URL, start: int, version: str | None) -> tuple[httpx.Response, int]:
        """The first answer that is no redirect, and the byte that was asked for; every hop is checked."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": version or ""}
        for _ in range(MAX_REDIRECTS + 1):
            hop = stack.enter_context(ExitStack())
            response = self._request(hop, url, headers)
            if not response.has_redirect_location:
                return response, start
            try:
                url = self._checked(str(url.join(response.headers["location"])))
            except (httpx.InvalidURL, ValueError):
                raise WebRefused(f"{url.host} redirects to a URL that is not well-formed.") from None
            finally:
                hop.close()
        raise WebRefused(f"{url.host} redirects more than {MAX_REDIRECTS} times.")

    def _request(self, stack: ExitStack, url: httpx.URL, headers: dict[str, str]) -> httpx.Response:
        """Tries the host's allowed addresses in turn."""
        verify = self._trust() if url.scheme == "https" else False
        client = stack.enter_context(
            httpx.Client(verify=verify, trust_env=False, follow_redirects=False, timeout=_TIMEOUT)
        )
        client.headers["user-agent"] = "tailorbird"
        sent = {**headers, "Host": url.netloc.decode("ascii")}
        fault = ""
        for address in self._addresses(url):
            request = client.build_request(
                "GET", url.copy_with(host=address, fragment=None), headers=sent, extensions={"sni_hostname": _name(url)}
            )
            try:
                response = client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                fault = _words(error)
                continue
            except httpx.HTTPError as error:
                raise WebBroken(f"{url.host} could not be read: {_words(error)}.") from None
            stack.callback(response.close)
            return response
        raise WebBroken(f"{url.host} could not be reached: {fault}.")

    def _addresses(self, url: httpx.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            found = self._resolve(_name(url), port)
        except (OSError, UnicodeError):
            raise WebBroken(f"The name {url.host} could not be resolved.") from None
        allowed = [text for text in found if (at := _literal(text)) is not None and self._may_reach(at)]
        if not allowed:
            raise _not_public(url.host)
        return allowed

    def _may_reach(self, address: Address) -> bool:
        return self._private or _is_public(address)


def _fetched(response: httpx.Response, asked: int) -> Fetched:
    host = response.request.headers["host"]
    status = response.status_code
    if status in _BUSY or status >= 500:
        raise WebBroken(f"{host} answered {status}.")
    if status == 416 and asked:
        # Nothing follows; what is there already may be all of it.
        _, total = _span(response)
        return Fetched(asked, total, _version(response), iter(()))
    if status not in (200, 206):
        reason = " (a signed URL may have expired or lack the right to read)" if status in (401, 403) else ""
        raise WebRefused(f"{host} answered {status}{reason}.")
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise WebRefused(f"{host} sends the file compressed; store it there without a Content-Encoding.")
    if status == 206:
        begin, total = _span(response)
        if begin != asked:
            raise WebBroken(f"{host} answered with another part than was asked for.")
        return Fetched(asked, total, _version(response), _chunks(response, host))
    length = response.headers.get("content-length", "")
    return Fetched(0, int(length) if length.isdecimal() else None, _version(response), _chunks(response, host))


def _chunks(response: httpx.Response, host: str) -> Iterator[bytes]:
    until = time.monotonic() + MAX_SECONDS
    try:
        for chunk in response.iter_raw():
            yield chunk
            if time.monotonic() > until:
                raise WebBroken(f"{host} took more than {MAX_SECONDS} s.")
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise WebBroken(f"The connection to {host} broke off: {_words(error)}.") from None


def _changed(response: httpx.Response, asked: int, version: str | None) -> bool:
    if response.status_code == 416:
        return _span(response)[1] != asked
    return response.status_code == 206 and _version(response) not in (version, None)


def _span(response: httpx.Response) -> tuple[int | None, int | None]:
    """Where a part begins, and the size of the whole."""
    found = _RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if found is None:
        return None, None
    begin, total = found.groups()
    return None if begin is None else int(begin), None if total == "*" else int(total)


def _version(response: httpx.Response) -> str | None:
    """What If-Range may be asked with: a strong ETag, else the time of the last change."""
    tag = response.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("last-modified")


def _name(url: httpx.URL) -> str:
    """The host as it is asked for on the wire: names in other scripts in their ASCII form."""
    return url.raw_host.decode("ascii")


def _matches(host: str, pattern: str) -> bool:
    name = host.lower().rstrip(".")
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]").split("%", 1)[0])
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Also not by way of an IPv6 address that carries a private IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _not_public(host: str) -> WebRefused:
    return WebRefused(f"{host} is at a private or reserved address, from which files are not imported.")


def _words(error: Exception) -> str:
    """The kind of error only: its text may hold the URL."""
    words: dict[type[Exception], str] = {
        httpx.ConnectError: "no connection",
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no data in time",
        httpx.RemoteProtocolError: "the answer ended too early or was not HTTP",
    }
    return words.get(type(error), "the connection failed")
