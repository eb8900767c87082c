"""Folders of weights where the environment is odd."""

from pathlib import Path

import pytest

from taesd_ext.commands.private_text import without_private
from taesd_ext.weights.folders import cache_folder, search_folders


def test_without_a_home_everything_is_still_found(monkeypatch, tmp_path):
    """As in a container whose user has no name: ``Path.home`` and ``expanduser`` raise there."""
    pwd = pytest.importorskip("pwd")
    for name in ("HOME", "XDG_CACHE_HOME", "USERPROFILE"):
        monkeypatch.delenv(name, raising=False)

    def nobody(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_folder().is_absolute()
    assert search_folders([tmp_path, "~/weights", "~nobody-of-this-name/weights"])[0] == tmp_path
    assert without_private(f"{Path.cwd()}/a", {Path.cwd(): "here"}) == "here/a"
