"""One download into a temporary file, resumed where an earlier one stopped."""

import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from taesd_ext.errors import TaesdError, one_line

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and the bytes in all, None where the server does not say."""

_MOST_REDIRECTS = 5
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)


class SourceFailed(TaesdError):
    """This address does not have the file; another one may."""


class TransferBroken(TaesdError):
    """The transfer broke off; the same address may work a moment later."""


class Cancelled(TaesdError):
    """The person changed their mind."""


@dataclass(frozen=True)
class Transfer:
    """How a download is done, and who hears of it. Times are in seconds."""

    progress: Progress = lambda done, total: None
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set by the person who changed their mind."""
    attempts: int = 4
    """Rounds through all sources, one after the other, that bring nothing."""
    first_pause: float = 1.0
    """After a round; doubled after each that brought nothing."""
    timeout: float = 20.0
    """Silence of a server that ends an attempt."""
    lock_wait: float = 900.0
    """For another process that downloads the same file."""


def fetch(
    url: str, part: Path, transfer: Transfer, *, limit: int, size: int | None = None,
    headers: Mapping[str, str] | None = None, plain_http: str = "",
) -> None:  # fmt: skip
    """Bring ``part`` up to the whole file at ``url``, going on after the bytes that it already has.

    No byte beyond ``limit`` is stored. Proxies are those of the environment. Plain http is refused, also by
    redirection, but from this machine and from a host that the person named, ``plain_http``. Raises SourceFailed,
    TransferBroken, Cancelled, and OSError for the local file.
    """
    have = bytes_in(part)
    if have > limit:
        part.unlink()
        have = 0
    if have == size:
        return
    allowed = (*_LOOPBACK, plain_http)
    asked = {"User-Agent": "taesd_ext", **(headers or {}), "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"

    def check(request: httpx.Request) -> None:
        """Each address, those of redirections too; only one that began with plain http may lead to plain http."""
        asked_for = request.url
        if asked_for.scheme != "https" and not (url.startswith("http:") and asked_for.host in allowed):
            address = f"{asked_for.scheme}://{asked_for.host}{asked_for.path}"  # without a query, which may hold a key
            raise SourceFailed("Only https is used for downloads", f"the address is {address}")

    try:
        with (
            httpx.Client(
                verify=_certificates(), timeout=transfer.timeout, follow_redirects=True, max_redirects=_MOST_REDIRECTS,
                event_hooks={"request": [check]},
            ) as client,
            client.stream("GET", url, headers=asked) as response,
        ):  # fmt: skip
            if response.status_code == 416:
                part.unlink(missing_ok=True)
                raise TransferBroken("The server has fewer bytes than are already here")
            if response.status_code not in (200, 206):
                raise _http_failure(url, response.status_code)
            _receive(response, part, have, limit, size, transfer)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:
        # ImportError and ValueError: a proxy in the environment that httpx cannot use.
        raise _network_failure(url, error) from error


def bytes_in(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _certificates() -> ssl.SSLContext:
    """Those that httpx brings, as some Pythons come without any, and the system's, where a network's own are."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _receive(
    response: httpx.Response, part: Path, have: int, limit: int, size: int | None, transfer: Transfer
) -> None:
    if response.headers.get("Content-Type", "").startswith(("text/html", "application/xhtml+xml")):
        raise _page_instead()
    if response.status_code == 200:
        have = 0
    elif not response.headers.get("Content-Range", "").replace(" ", "").startswith(f"bytes{have}-"):
        part.unlink(missing_ok=True)
        raise TransferBroken("The server sends a part that was not asked for")
    length = response.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else size
    if size is not None and total != size:
        raise SourceFailed("The server offers another version", f"{total:,} bytes instead of {size:,}")
    if total is not None and total > limit:
        raise SourceFailed("The server offers something else", f"{total:,} bytes, more than any such file")
    with part.open("r+b" if have else "wb") as out:
        out.seek(have)
        out.truncate()
        for chunk in response.iter_raw():
            if transfer.cancel.is_set():
                raise Cancelled("Cancelled", "", "Start it again to go on from here")
            if not have and chunk.lstrip()[:1] == b"<":
                raise _page_instead()
            if have + len(chunk) > (limit if total is None else total):
                raise SourceFailed("The server sends more than the file has")
            out.write(chunk)
            have += len(chunk)
            transfer.progress(have, total)
    if total is not None and have < total:
        raise TransferBroken("The connection broke off", f"after {have:,} of {total:,} bytes")


def _page_instead() -> SourceFailed:
    return SourceFailed(
        "A web page came instead of the file",
        "often the log-in page of a network or of the site",
        "Open any page in the browser and log in, then try again",
    )


def _http_failure(url: str, status: int) -> TaesdError:
    host = httpx.URL(url).host
    if status in (401, 403):
        return SourceFailed(
            f"{host} requires a log-in for this file (HTTP {status})",
            "its owner asks you to accept the licence on the site first",
            "Accept it there and set HF_TOKEN, or download it in the browser and put it into the folder",
        )
    if status in (404, 410):
        return SourceFailed(f"{host} does not have this file (HTTP {status})", "it was moved or taken away")
    if status in _TRY_LATER:
        return TransferBroken(f"{host} is busy or broken (HTTP {status})", "", "Try again later")
    return SourceFailed(f"{host} answers with HTTP {status}")


def _network_failure(url: str, error: Exception) -> TaesdError:
    host = httpx.URL(url).host
    if isinstance(error, httpx.TooManyRedirects):
        return SourceFailed(f"{host} redirects in a loop")
    if isinstance(error, httpx.TimeoutException):
        return TransferBroken(f"{host} stopped responding", "", "Try again later")
    if "CERTIFICATE_VERIFY" in str(error):
        return SourceFailed(
            f"The certificate of {host} is not trusted",
            "something inspects the traffic, or the certificates here are out of date",
            "Set SSL_CERT_FILE to your network's certificate, or update certifi",
        )
    return TransferBroken(f"No connection to {host}", one_line(error), "Check the network and the proxy settings")
