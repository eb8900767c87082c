"""Small pieces of HTML that several tabs show. Everything from outside is escaped here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from taesd_ext.errors import one_line
from taesd_ext.preview.job import Stats


def notice(text: str, kind: str = "info") -> str:
    """A line in a box; ``kind`` is "info", "good", "warning" or "bad"."""
    return f'<p class="taesd-ext-notice taesd-ext-{kind}" role="status">{escape(text)}</p>' if text else ""


def outcome(change: Callable[[], str]) -> str:
    """A notice of what the change says once it is made, or of why it was not."""
    try:
        return notice(change(), "good")
    except Exception as error:
        return notice(one_line(error), "bad")


def progress_bar(share: float, text: str = "", data: Mapping[str, str] | None = None) -> str:
    """A bar filled to ``share`` in [0,1]; ``data`` is for javascript/taesd_ext.js."""
    percent = round(100 * min(1.0, max(0.0, share)))
    attributes = "".join(f' data-{name}="{escape(value)}"' for name, value in (data or {}).items())
    return (
        f'<div class="taesd-ext-bar" role="progressbar" aria-valuemax="100" aria-valuenow="{percent}"{attributes}>'
        f'<div style="width:{percent}%"></div><span>{escape(text)}</span></div>'
    )


def counted(count: int, noun: str) -> str:
    """ "1 preview", "2 previews"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def cost_words(stats: Stats) -> str:
    """What the previews of the current or last job took, measured; "" before the first."""
    if not stats.frames:
        return ""
    return (
        f"Last job: {counted(stats.frames, 'preview')} at detail {stats.detail}, {stats.milliseconds:.1f} ms each, "
        f"{100 * stats.share:.1f} % of its {stats.elapsed:.1f} s."
    )


class Markup(str):
    """HTML made here, to be shown as it is; any other text is escaped."""


def badge(text: str, kind: str) -> Markup:
    """A word on a coloured ground; ``kind`` is "good", "fair", "bad" or "none"."""
    return Markup(f'<span class="taesd-ext-badge taesd-ext-{kind}">{escape(text)}</span>')


def bar_cell(share: float, text: str) -> Markup:
    """A table's cell with a bar of this share of its width, and what it stands for."""
    return Markup(f'<span class="taesd-ext-bar-cell" style="--share:{100 * share:.1f}%">{escape(text)}</span>')


def _cell(content: str) -> str:
    return content if isinstance(content, Markup) else escape(content)


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "", *, without_empty: bool = False
) -> str:  # fmt: skip
    """A table of plain texts and :class:`Markup`; ``without_empty`` leaves out columns that no row fills."""
    if without_empty:
        columns = [column for column in zip(head, *rows, strict=True) if any(column[1:])]
        head, *rows = zip(*columns, strict=True)
    heading = "".join(f"<th>{_cell(cell)}</th>" for cell in head)
    heading = f"<thead><tr>{heading}</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="taesd-ext-scroll"><table class="taesd-ext-table {escape(kind)}">'
        f"{heading}<tbody>{body}</tbody></table></div>"
    )


def _shape(size: tuple[int, int]) -> str:
    """Style of a picture of this shape; style.css fits it into the room by its ratio."""
    return f"aspect-ratio:{size[0]}/{size[1]};--ratio:{size[0] / size[1]:.4f}"


def stage(uri: str | None, size: tuple[int, int], caption: str, empty: str = "") -> str:
    """A picture shown at ``size`` in shape, however few pixels it has, with a caption below."""
    shape = _shape(size)
    inside = (
        f'<img src="{escape(uri)}" style="{shape}" alt="{escape(caption)}">'
        if uri
        else f'<div class="taesd-ext-empty" style="{shape}"><span>{escape(empty)}</span></div>'
    )
    return f'<figure class="taesd-ext-stage">{inside}<figcaption>{escape(caption)}</figcaption></figure>'


def slider(first: str, second: str, names: tuple[str, str], size: tuple[int, int]) -> str:
    """Two pictures of one size on top of each other, with a line that is drawn over them."""
    shape = _shape(size)
    return (
        f'<figure class="taesd-ext-slider" style="{shape};--cut:50%">'
        f'<img src="{escape(first)}" alt="{escape(names[0])}"><img src="{escape(second)}" alt="{escape(names[1])}">'
        f"<span>{escape(names[0])}</span><span>{escape(names[1])}</span>"
        '<input type="range" min="0" max="100" step="0.1" value="50" aria-label="where the two pictures meet"></figure>'
    )


def gallery(items: Iterable[tuple[str, str]]) -> str:
    """Pictures side by side, (address, caption) each."""
    figures = (
        f'<figure><img src="{escape(uri)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for uri, caption in items
    )
    return f'<div class="taesd-ext-gallery">{"".join(figures)}</div>'


def film(frames: Sequence[tuple[str, str]], size: tuple[int, int]) -> str:
    """A film strip, (address, words) for each frame; javascript/taesd_ext.js makes it play."""
    if not frames:
        return ""
    last = len(frames) - 1
    shape = _shape(size)
    strip = ""
    for index, (uri, words) in enumerate(frames):
        current = ' aria-current="true"' if index == last else ""
        strip += (
            f'<button type="button" data-frame="{index}" aria-label="{escape(words)}"{current}>'
            f'<img src="{escape(uri)}" alt="" style="{shape}"><span>{escape(words.split(" · ")[0])}</span></button>'
        )
    return (
        '<div class="taesd-ext-film" tabindex="0"><figure class="taesd-ext-stage"><img class="taesd-ext-shown" '
        f'src="{escape(uri)}" alt="" style="{shape}"><figcaption>{escape(words)}</figcaption></figure>'
        '<div class="taesd-ext-film-bar"><button type="button" class="taesd-ext-play" aria-label="play">▶</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" aria-label="frame"></div>'
        f'<div class="taesd-ext-strip">{strip}</div></div>'
    )
