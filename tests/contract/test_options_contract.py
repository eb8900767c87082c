"""What the host makes of an option's help, its localization can translate."""

from dataclasses import dataclass
from types import SimpleNamespace

from extracted import extract
from host_source import HostSource
from shown_texts import shown_texts

from taesd_ext.host.webui import WebUI


def test_the_help_of_an_option_stands_alone(source: HostSource) -> None:
    given = extract(source, "modules/options.py", "OptionInfo", dataclass=dataclass)
    added = {}
    host = WebUI.__new__(WebUI)
    host._options = SimpleNamespace(OptionInfo=given["OptionInfo"])
    host.shared = SimpleNamespace(opts=SimpleNamespace(add_option=added.__setitem__))
    host.add_option("key", 1, "label", "a < b & the WebUI's", ("ui", "Live previews"))
    assert shown_texts(added["key"].comment_after) == ["(", "a < b & the WebUI's", ")"]
