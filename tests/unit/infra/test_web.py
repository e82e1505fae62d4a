from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tailorbird.infra.certificates import ensure_certificates
from tailorbird.infra.web import HttpWeb
from tailorbird.service.ports import WebBroken, WebRefused

DATA = bytes(range(256)) * 40


class Server(ThreadingHTTPServer):
    """Answers each request with `answer`; keeps the headers of all of them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[Handler], None] = serve_ranges

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.server.answer(self)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def serve_ranges(handler: Handler) -> None:
    asked = handler.headers.get("Range")
    if asked is None or handler.headers.get("If-Range") != '"v1"':
        handler.reply(200, DATA, ETag='"v1"')
        return
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    if start >= len(DATA):
        handler.reply(416, Content_Range=f"bytes */{len(DATA)}")
        return
    handler.reply(206, DATA[start:], ETag='"v1"', Content_Range=f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def web() -> HttpWeb:
    return HttpWeb(private=True)


def url(server: Server, path: str = "/c/train.jsonl?sig=SECRET", host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.port}{path}"


def test_a_file_is_read_with_its_size_and_version(server, web):
    with web.open(url(server), 0, None) as got:
        assert (got.start, got.total, got.version) == (0, len(DATA), '"v1"')
        assert b"".join(got.chunks) == DATA
    path, headers = server.asked[0]
    assert path == "/c/train.jsonl?sig=SECRET", "the query is part of a signed URL"
    assert (headers["host"], headers["accept-encoding"]) == (f"127.0.0.1:{server.port}", "identity")
    assert "range" not in headers


def test_reading_goes_on_where_it_stopped(server, web):
    with web.open(url(server), 100, '"v1"') as got:
        assert (got.start, got.total) == (100, len(DATA))
        assert b"".join(got.chunks) == DATA[100:]
    assert server.asked[0][1]["range"] == "bytes=100-"


def test_a_file_that_has_changed_is_read_from_its_beginning(server, web):
    with web.open(url(server), 100, '"v0"') as got:
        assert (got.start, got.version) == (0, '"v1"')
        assert b"".join(got.chunks) == DATA


def test_a_server_that_ignores_if_range_is_not_believed(server, web):
    def ignorant(handler: Handler) -> None:
        if "Range" in handler.headers:
            handler.reply(206, DATA[100:], ETag='"v2"', Content_Range=f"bytes 100-{len(DATA) - 1}/{len(DATA)}")
        else:
            handler.reply(200, DATA, ETag='"v2"')

    server.answer = ignorant
    with web.open(url(server), 100, '"v1"') as got:
        assert (got.start, got.version) == (0, '"v2"')
        assert b"".join(got.chunks) == DATA


def test_nothing_follows_a_file_that_is_whole(server, web):
    with web.open(url(server), len(DATA), '"v1"') as got:
        assert (got.start, got.total, list(got.chunks)) == (len(DATA), len(DATA), [])


def test_an_answer_cut_off_in_the_middle_is_broken_after_its_bytes(server, web):
    server.answer = lambda handler: handler.reply(200, DATA[:5000], Content_Length=str(len(DATA)))
    with web.open(url(server), 0, None) as got:
        assert (next(got.chunks), got.version) == (DATA[:5000], None)
        with pytest.raises(WebBroken, match="ended too early"):
            list(got.chunks)


@pytest.mark.parametrize(
    ("status", "error"), [(503, WebBroken), (429, WebBroken), (403, WebRefused), (404, WebRefused)]
)
def test_a_busy_server_may_be_asked_again_and_a_refusing_one_not(server, web, status, error):
    server.answer = lambda handler: handler.reply(status)
    with pytest.raises(error, match=str(status)) as caught, web.open(url(server), 0, None):
        pass
    assert "SECRET" not in str(caught.value)


def test_a_compressed_answer_is_refused_and_not_taken_for_the_file(server, web):
    server.answer = lambda handler: handler.reply(200, b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(WebRefused, match="compressed"), web.open(url(server), 0, None):
        pass


def test_redirects_are_followed_five_times_and_no_further(server, web):
    left = [5]

    def redirect(handler: Handler) -> None:
        if left[0]:
            left[0] -= 1
            handler.reply(302, Location=f"/hop{left[0]}?sig=SECRET")
        else:
            serve_ranges(handler)

    server.answer = redirect
    with web.open(url(server), 0, None) as got:
        assert b"".join(got.chunks) == DATA
    left[0] = 6
    with pytest.raises(WebRefused, match="more than 5 times"), web.open(url(server), 0, None):
        pass


@pytest.mark.parametrize("place", ["http://169.254.169.254/metadata", "https://10.0.0.1/x", "ftp://example.com/x"])
def test_a_redirect_to_a_forbidden_place_is_refused_without_going_there(server, place):
    server.answer = lambda handler: handler.reply(302, Location=place)
    web = HttpWeb(["127.0.0.1", "example.com"], private=True)
    with pytest.raises(WebRefused), web.open(url(server), 0, None):
        pass
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/a",
        "ftp://example.com/a",
        "file:///etc/passwd",
        "https://",
        "https:///a",
        "nonsense",
        "https://user:password@example.com/a",
        "https://exa mple.com:port/",
        "https://127.0.0.1/a",
        "https://[::1]/a",
        "https://10.1.2.3/a",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/a",
        "https://[64:ff9b::a00:1]/a",
        "https://[fe80::1]/a",
        "https://0.0.0.0/a",
        "https://224.0.0.1/a",
        "https://100.64.0.1/a",
        "https://example.com/" + "a" * 9000,
    ],
)
def test_what_needs_no_connection_to_refuse_is_refused_at_once(text):
    with pytest.raises(WebRefused):
        HttpWeb().check(text)


def test_only_hosts_of_the_list_are_read():
    web = HttpWeb(["data.example.com", "*.blob.core.windows.net"])
    web.check("https://data.example.com/a")
    web.check("https://DATA.example.com./a")
    web.check("https://acc.blob.core.windows.net/c/b?sig=x")
    for host in ("example.com", "blob.core.windows.net", "evilblob.core.windows.net", "data.example.com.evil.net"):
        with pytest.raises(WebRefused, match="operator"):
            web.check(f"https://{host}/a")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "fc00::1", "::ffff:127.0.0.1"])
def test_a_name_that_leads_to_a_private_address_is_refused(address):
    web = HttpWeb(resolve=lambda host, port: [address])
    with pytest.raises(WebRefused, match="private"), web.open("https://innocent.example.com/a", 0, None):
        pass


def test_the_connection_goes_to_the_address_that_was_checked(server):
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    web = HttpWeb(private=True, resolve=rebinding)
    # The name exists nowhere: only our answer for it can lead to the server.
    with web.open(url(server, host="data.nowhere.invalid"), 0, None) as got:
        assert b"".join(got.chunks) == DATA
    with web.open(url(server, host="bücher.invalid"), 0, None) as got:
        assert b"".join(got.chunks) == DATA
    assert asked == [("data.nowhere.invalid", server.port), ("xn--bcher-kva.invalid", server.port)]
    assert server.asked[0][1]["host"] == f"data.nowhere.invalid:{server.port}"


def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(server, tmp_path):
    made = ensure_certificates(tmp_path, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    web = HttpWeb(
        private=True,
        resolve=lambda host, port: ["127.0.0.1"],
        trust=lambda: ssl.create_default_context(cafile=str(made.ca)),
    )
    with web.open(f"https://localhost:{server.port}/a", 0, None) as got:
        assert b"".join(got.chunks) == DATA
    with pytest.raises(WebBroken), web.open(f"https://other.invalid:{server.port}/a", 0, None):
        pass


def test_an_address_that_does_not_answer_is_passed_over(server):
    web = HttpWeb(
        private=True, resolve=lambda host, port: ["127.0.0.99" if port != server.port else "::1", "127.0.0.1"]
    )
    with web.open(url(server, host="two.invalid"), 0, None) as got:
        assert b"".join(got.chunks) == DATA


def test_a_name_nobody_knows_may_be_tried_again():
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with (
        pytest.raises(WebBroken, match="could not be resolved"),
        HttpWeb(resolve=unknown).open("https://x.y/", 0, None),
    ):
        pass


def test_a_signature_is_never_logged(server, web, caplog):
    with caplog.at_level(logging.DEBUG), web.open(url(server), 0, None) as got:
        list(got.chunks)
    assert "SECRET" not in caplog.text
