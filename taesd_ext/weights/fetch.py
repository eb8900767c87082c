"""One transfer over https into a temporary file, which goes on where an earlier one broke off."""

from __future__ import annotations

import http.client
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import IO

from taesd_ext.errors import TaesdError, one_line

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and the bytes in all, None where the server does not say."""

_CHUNK = 256 * 1024
_MOST_REDIRECTS = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)


class SourceFailed(TaesdError):
    """This address does not have the file; another one may."""


class TransferBroken(TaesdError):
    """The transfer broke off; the same address may work a moment later."""


class Cancelled(TaesdError):
    """The person changed their mind."""


def fetch(
    url: str,
    part: Path,
    *,
    limit: int,
    size: int | None = None,
    timeout: float = 20.0,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    allow_loopback_http: bool = False,
) -> None:
    """Bring ``part`` up to the whole file at ``url``, going on after the bytes that it already has.

    No byte beyond ``limit`` is stored. ``timeout`` is how many seconds the server may be silent. Proxies are those of
    the environment. Plain http is refused, also by redirection, but for a server on this machine with
    ``allow_loopback_http``, which is for tests. Raises SourceFailed, TransferBroken, Cancelled, and OSError for the
    local file.
    """
    _check_address(url, allow_loopback_http)
    have = part.stat().st_size if part.exists() else 0
    if have > limit or (size is not None and have > size):
        part.unlink()
        have = 0
    if size is not None and have == size:
        return
    request = urllib.request.Request(url, headers=_headers(have))
    try:
        with _opener(allow_loopback_http).open(request, timeout=timeout) as response:
            _receive(response, part, have, limit, size, progress, cancel)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.unlink(missing_ok=True)
            raise TransferBroken("The server has fewer bytes than were already there", url) from None
        if "not allowed" in str(error.reason):
            raise SourceFailed("The server redirects to an unsafe address") from None
        raise _http_failure(url, error.code) from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _network_failure(url, error) from error


def _headers(have: int) -> dict[str, str]:
    headers = {"User-Agent": "taesd_ext", "Accept": "application/octet-stream,*/*", "Accept-Encoding": "identity"}
    return {**headers, "Range": f"bytes={have}-"} if have else headers


def _receive(
    response: http.client.HTTPResponse,
    part: Path,
    have: int,
    limit: int,
    size: int | None,
    progress: Progress | None,
    cancel: threading.Event | None,
) -> None:
    _refuse_page(response)
    if response.status != 206:
        have = 0
    elif not _starts_at(response.headers, have):
        part.unlink(missing_ok=True)
        raise TransferBroken("The server sends another piece than was asked for")
    told = response.headers.get("Content-Length", "")
    total = have + int(told) if told.isdigit() else size
    if size is not None and total is not None and total != size:
        raise SourceFailed("The server offers another version", f"{total:,} bytes instead of {size:,}")
    if total is not None and total > limit:
        raise SourceFailed("The server offers something else", f"{total:,} bytes, more than any such file")
    with part.open("r+b" if have else "wb") as out:
        out.seek(have)
        out.truncate()
        while True:
            if cancel is not None and cancel.is_set():
                raise Cancelled("Cancelled", "", "Start it again to go on from here")
            chunk = _read(response)
            if not chunk:
                break
            if not have and _is_page(chunk):
                raise _page_instead()
            if have + len(chunk) > (limit if total is None else total):
                raise SourceFailed("The server sends more than the file has")
            out.write(chunk)
            have += len(chunk)
            if progress:
                progress(have, total)
    if total is not None and have < total:
        raise TransferBroken("The connection broke off", f"after {have:,} of {total:,} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    """What has arrived; errors of the network stay apart from those of the disk, which are OSError too."""
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _network_failure(response.url, error) from error


def _starts_at(headers: Message, have: int) -> bool:
    return headers.get("Content-Range", "").replace(" ", "").startswith(f"bytes{have}-")


def _refuse_page(response: http.client.HTTPResponse) -> None:
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _page_instead()
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceFailed("The server sends packed data", "which was not asked for")


def _is_page(start: bytes) -> bool:
    return start.lstrip()[:1] == b"<"


def _page_instead() -> SourceFailed:
    return SourceFailed(
        "A web page came instead of the file",
        "often the log-in page of a network or of the site",
        "Open any page in the browser and log in, then try again",
    )


def _check_address(url: str, allow_loopback_http: bool) -> None:
    address = urllib.parse.urlsplit(url)
    if address.scheme == "https" and address.hostname:
        return
    if address.scheme == "http" and allow_loopback_http and address.hostname in _LOOPBACK:
        return
    raise SourceFailed("Only https is used for downloads", f"the address is {_short(url)}")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirections, over https only."""

    max_redirections = _MOST_REDIRECTS
    max_repeats = 1

    def __init__(self, allow_loopback_http: bool) -> None:
        self._allow_loopback_http = allow_loopback_http

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        try:
            _check_address(newurl, self._allow_loopback_http and req.type == "http")
        except SourceFailed as error:
            raise SourceFailed("The server redirects to an unsafe address", error.why) from None
        # Python 3.10 does not know 308, which is 307 for good.
        known = 307 if code == 308 else code
        return super().redirect_request(req, fp, known, msg, headers, newurl)  # type: ignore[arg-type]

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302


def _opener(allow_loopback_http: bool) -> urllib.request.OpenerDirector:
    """Http and https and nothing else: urllib's own opener also reads file:, ftp: and data: addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=_tls()),
        _Redirects(allow_loopback_http),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _tls() -> ssl.SSLContext:
    """The system's certificates, and those of certifi where it is there: some Pythons come without any."""
    context = ssl.create_default_context()
    try:
        import certifi
    except ImportError:
        return context
    context.load_verify_locations(certifi.where())
    return context


def _http_failure(url: str, status: int) -> TaesdError:
    if status in (401, 403):
        return SourceFailed(
            f"{_host(url)} wants a log-in for this file (HTTP {status})",
            "its owner gives it only to those who accept the licence on the site",
            "Download it there in the browser and put it into the folder",
        )
    if status in (404, 410):
        return SourceFailed(f"{_host(url)} does not have this file (HTTP {status})", "it was moved or taken away")
    if status in (301, 302, 303, 307, 308):
        return SourceFailed(f"{_host(url)} redirects in a circle (HTTP {status})")
    if status in _TRY_LATER:
        return TransferBroken(f"{_host(url)} is busy or broken (HTTP {status})", "", "Try again later")
    return SourceFailed(f"{_host(url)} answers with HTTP {status}")


def _network_failure(url: str, error: Exception) -> TaesdError:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return SourceFailed(
            f"{_host(url)} cannot prove that it is {_host(url)}",
            "its certificate is not trusted: something looks into the traffic, or the certificates here are old",
            "Set SSL_CERT_FILE to your network's certificate, or pip install certifi",
        )
    if isinstance(reason, TimeoutError) or "timed out" in str(reason):
        return TransferBroken(f"{_host(url)} has fallen silent", "", "Try again later")
    why = reason if isinstance(reason, str) else one_line(reason)
    return TransferBroken(f"No connection to {_host(url)}", why, "Check the network and the proxy settings")


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or "the server"


def _short(url: str) -> str:
    """Scheme, host and path: a query may hold a key."""
    address = urllib.parse.urlsplit(url)
    return f"{address.scheme}://{address.hostname or ''}{address.path}"
