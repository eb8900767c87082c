"""A server of files on this machine that does whatever a bad network does."""

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><body>Log in to Hotel WiFi</body></html>"

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""

ANSWERS: dict[str, Callable[[bytes, int], Answer]] = {
    "missing": lambda content, times: (404, {}, b""),
    "forbidden": lambda content, times: (403, {}, b""),
    "busy": lambda content, times: (503, {}, b""),
    "page": lambda content, times: (200, {"Content-Type": "text/html; charset=utf-8"}, PAGE),
    "page-as-file": lambda content, times: (200, {"Content-Type": "application/octet-stream"}, PAGE),
    "redirect": lambda content, times: (302, {"Location": "/good/file.pth"}, b""),
    "redirect-308": lambda content, times: (308, {"Location": "/good/file.pth"}, b""),
    "loop": lambda content, times: (302, {"Location": f"/loop/{times}"}, b""),
    "to-file": lambda content, times: (302, {"Location": "file:///etc/hostname"}, b""),
    "to-elsewhere": lambda content, times: (302, {"Location": "http://elsewhere.invalid/file.pth"}, b""),
    "no-ranges": lambda content, times: (200, {}, content),
    "other-range": lambda content, times: (206, {"Content-Range": f"bytes 0-9/{len(content)}"}, content[:10]),
}
"""How -> the whole answer, whatever was asked for, to the content and the number of this request."""

AFTER = {"broken-once": (1, "broken"), "busy-twice": (2, "busy")}
"""How -> (so many requests, how those are answered); later ones are answered well."""


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
        times, content = self.server.requests[how], self.server.content
        if how in AFTER:
            first, bad = AFTER[how]
            how = bad if times <= first else "good"
        if how in ANSWERS:
            status, headers, body = ANSWERS[how](content, times)
            self.start(status, {"Content-Length": str(len(body)), **headers})
            self.wfile.write(body)
        else:
            getattr(self, how)(content, times)

    def start(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def begin(self, content: bytes) -> bytes:
        """The head of a good answer, and the bytes that are to follow."""
        wanted = self.headers.get("Range")
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        rest, status, headers = content[first:], 200, {}
        if wanted:
            status = 206 if rest else 416
            headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if rest else {}
        self.start(status, {"Content-Length": str(len(rest)), **headers})
        return rest

    def good(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(content))

    def broken(self, content: bytes, _: int) -> None:
        """A third of what was asked for, then the line is cut."""
        rest = self.begin(content)
        self.wfile.write(rest[: max(1, len(rest) // 3)])

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
        self.server.slow.wait(120)

    def wrong(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(bytes(len(content))))

    def shorter(self, content: bytes, _: int) -> None:
        self.wfile.write(self.begin(content[:-1]))

    def endless(self, content: bytes, _: int) -> None:
        self.start(200, {})
        try:
            while not self.server.slow.is_set():
                self.wfile.write(b"\x80" * 65536)
        except OSError:
            pass

    def chunked(self, content: bytes, _: int) -> None:
        self.start(200, {"Transfer-Encoding": "chunked"})
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
