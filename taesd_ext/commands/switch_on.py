"""What a WebUI's own settings have to be for live previews by TAESD, and how its config.json gets them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taesd_ext.commands.outputs import write_atomically
from taesd_ext.errors import TaesdError, one_line
from taesd_ext.home import expanded

TAESD = "TAESD"
"""The WebUIs' name for their tiny decoder, whose place we take."""

METHOD, PERIOD, REFRESH, ENABLED = HOSTS_KEYS = (
    "show_progress_type", "show_progress_every_n_steps", "live_preview_refresh_period", "live_previews_enable",
)  # fmt: skip

LONGEST_REFRESH_MS = 500
"""Of the page; A1111's default of a second shows half of the previews of a fast card."""

_CONFIG = "config.json"
_EXTENSION = Path(__file__).resolve().parents[2]


def needed_changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the WebUI's settings that stand in the way -> what they have to be. Missing ones count as A1111's."""
    changes: dict[str, Any] = {}
    if settings.get(METHOD) != TAESD:
        changes[METHOD] = TAESD
    if settings.get(ENABLED) is False:
        changes[ENABLED] = True
    if settings.get(PERIOD) != 1:
        changes[PERIOD] = 1
    refresh = settings.get(REFRESH)
    if not isinstance(refresh, (int, float)) or refresh > LONGEST_REFRESH_MS:
        changes[REFRESH] = LONGEST_REFRESH_MS
    return changes


def find_config(given: Path | None = None) -> Path:
    """The config.json of the WebUI that is given, of the one this lies in, or of the one in the working folder.

    Raises TaesdError where there is none.
    """
    if given is not None:
        folder = expanded(given)
        if folder.suffix == ".json" and folder.parent.is_dir():
            return folder.resolve()
        candidates = [folder]
    else:
        candidates = [*([_EXTENSION.parents[1]] if _EXTENSION.parent.name == "extensions" else []), Path.cwd()]
    for folder in candidates:
        if (folder / _CONFIG).is_file() or ((folder / "modules").is_dir() and (folder / "extensions").is_dir()):
            return (folder / _CONFIG).resolve()
    where = " and ".join(map(str, candidates))
    raise TaesdError("No WebUI was found", f"there is no {_CONFIG} in {where}", "Give its folder: doctor --fix FOLDER")


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a config.json; none where it is not there yet. Raises TaesdError for what is no such file."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise TaesdError(f"Cannot read {path}", one_line(error), "Save the WebUI's settings once") from error
    if not isinstance(settings, dict):
        raise TaesdError(f"Cannot read {path}", "it holds no settings", "Give the config.json of a WebUI")
    return settings


def switch_on(path: Path) -> list[str]:
    """Change a config.json so that TAESD draws the live previews; what was changed, a line each. Raises TaesdError."""
    settings = read_config(path)
    changes = needed_changes(settings)
    lines = [f"{key}: {settings.get(key, 'not set')} -> {value}" for key, value in changes.items()]
    if changes:
        try:
            before = path.stat() if path.exists() else None
            write_atomically(path, json.dumps({**settings, **changes}, indent=4, ensure_ascii=False).encode())
            if before:
                path.chmod(before.st_mode)
        except OSError as error:
            raise TaesdError(f"Cannot write {path}", one_line(error), "Change it in the Settings tab") from error
    return lines
