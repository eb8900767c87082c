"""Small pieces of HTML that several tabs show. Everything from outside is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def notice(text: str, kind: str = "info") -> str:
    """A line in a box; ``kind`` is "info", "good" or "bad"."""
    return f'<p class="taesd-ext-notice taesd-ext-{kind}" role="status">{escape(text)}</p>' if text else ""


def progress_bar(share: float, text: str = "") -> str:
    """A bar filled to ``share`` in [0,1]."""
    percent = round(100 * min(1.0, max(0.0, share)))
    return (
        f'<div class="taesd-ext-bar" role="progressbar" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<div style="width:{percent}%"></div><span>{escape(text)}</span></div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table of plain texts."""
    heading = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    heading = f"<thead><tr>{heading}</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="taesd-ext-scroll"><table class="taesd-ext-table {escape(kind)}">'
        f"{heading}<tbody>{body}</tbody></table></div>"
    )


def stage(uri: str | None, size: tuple[int, int], caption: str, share: float | None = None, empty: str = "") -> str:
    """A picture shown at ``size`` in shape, however few pixels it has, with a caption below."""
    shape = f"aspect-ratio:{size[0]}/{size[1]}"
    inside = (
        f'<img src="{escape(uri)}" style="{shape}" alt="{escape(caption)}">'
        if uri
        else f'<div class="taesd-ext-empty" style="{shape}"><span>{escape(empty)}</span></div>'
    )
    bar = progress_bar(share, caption) if share is not None else f"<figcaption>{escape(caption)}</figcaption>"
    return f'<figure class="taesd-ext-stage">{inside}{bar}</figure>'
