"""What a page's localization looks up: each text that stands in an element by itself."""

from html.parser import HTMLParser


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data.strip())


def shown_texts(markup: str) -> list[str]:
    """The texts of this markup, as a browser holds them."""
    reader = _Texts()
    reader.feed(markup)
    reader.close()
    return reader.found
