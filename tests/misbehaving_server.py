"""A server of files on this machine that does whatever a bad network does."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Log in to Hotel WiFi</body></html>"


class Server(ThreadingHTTPServer):
    """Serves ``content``; the first part of the path says how: /good/x, /broken/x, ..."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.requests: Counter[str] = Counter()
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.tokens: list[str | None] = []
        self.slow = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent where the client has hung up, as it should on most of this."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def url(self, how: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{how}/file.pth"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        self.server.requests[how] += 1
        self.server.ranges.append(self.headers.get("Range"))
        self.server.paths.append(self.path)
        self.server.tokens.append(self.headers.get("Authorization"))
        self.close_connection = True
        getattr(self, how.replace("-", "_"))(self.server.content, self.server.requests[how])

    def start(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def begin(self, content: bytes) -> bytes:
        """The head of a good answer, and the bytes that are to follow."""
        wanted = self.headers.get("Range")
        if wanted is None:
            self.start(200, len(content))
            return content
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            self.start(416, 0)
            return b""
        self.start(206, len(content) - first, Content_Range=f"bytes {first}-{len(content) - 1}/{len(content)}")
        return content[first:]

    def good(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(content))

    def broken(self, content: bytes, _: int) -> None:
        """A third of what was asked for, then the line is cut."""
        rest = self.begin(content)
        self.wfile.write(rest[: max(1, len(rest) // 3)])

    def broken_once(self, content: bytes, times: int) -> None:
        (self.broken if times == 1 else self.good)(content, times)

    def dribble(self, content: bytes, _: int) -> None:
        rest = self.begin(content)
        for start in range(0, len(rest), 1024):
            self.wfile.write(rest[start : start + 1024])
            self.wfile.flush()
            if self.server.slow.wait(0.01):
                return

    def silent(self, content: bytes, times: int) -> None:
        """Silence after a start, and silence without one from then on."""
        if times == 1:
            self.wfile.write(self.begin(content)[:1000])
            self.wfile.flush()
        self.server.slow.wait(10)

    def wrong(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(bytes(len(content))))

    def shorter(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(content[:-1]))

    def page(self, content: bytes, _: int) -> None:
        self.start(200, len(PAGE), Content_Type="text/html; charset=utf-8")
        self.wfile.write(PAGE)

    def page_as_file(self, content: bytes, _: int) -> None:
        self.start(200, len(PAGE), Content_Type="application/octet-stream")
        self.wfile.write(PAGE)

    def missing(self, content: bytes, _: int) -> None:
        self.start(404, 0)

    def forbidden(self, content: bytes, _: int) -> None:
        self.start(403, 0)

    def busy(self, content: bytes, _: int) -> None:
        self.start(503, 0)

    def busy_twice(self, content: bytes, times: int) -> None:
        (self.busy if times <= 2 else self.good)(content, times)

    def redirect(self, content: bytes, _: int) -> None:
        self.start(302, 0, Location="/good/file.pth")

    def redirect_308(self, content: bytes, _: int) -> None:
        self.start(308, 0, Location="/good/file.pth")

    def loop(self, content: bytes, times: int) -> None:
        self.start(302, 0, Location=f"/loop/{times}")

    def to_file(self, content: bytes, _: int) -> None:
        self.start(302, 0, Location="file:///etc/hostname")

    def to_elsewhere(self, content: bytes, _: int) -> None:
        self.start(302, 0, Location="http://elsewhere.invalid/file.pth")

    def no_ranges(self, content: bytes, _: int) -> None:
        self.start(200, len(content))
        self.wfile.write(content)

    def other_range(self, content: bytes, _: int) -> None:
        self.start(206, 10, Content_Range=f"bytes 0-9/{len(content)}")
        self.wfile.write(content[:10])

    def packed(self, content: bytes, _: int) -> None:
        self.start(200, len(content), Content_Encoding="gzip")
        self.wfile.write(content)

    def endless(self, content: bytes, _: int) -> None:
        self.start(200, None)
        try:
            while not self.server.slow.is_set():
                self.wfile.write(b"\x80" * 65536)
        except OSError:
            pass

    def chunked(self, content: bytes, _: int) -> None:
        self.start(200, None, Transfer_Encoding="chunked")
        for start in range(0, len(content), 5000):
            piece = content[start : start + 5000]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def garbage(self, content: bytes, _: int) -> None:
        self.wfile.write(b"\x00\xff not http at all\r\n\r\n")


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.slow.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
