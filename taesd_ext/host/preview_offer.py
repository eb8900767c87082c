"""Whether the WebUI's live previews could be by TAESD and are not, and what changes that."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from taesd_ext.commands.switch_on import HOSTS_KEYS, METHOD, needed_changes
from taesd_ext.errors import TaesdError
from taesd_ext.host.options import HostOptions
from taesd_ext.host.webui import WebUI
from taesd_ext.ui.actions import PreviewOffer


def preview_offer(host: WebUI, options: HostOptions) -> PreviewOffer | None:
    """None where previews of ours have no place."""
    if "preview" not in host.supports:
        return None

    def other_method() -> str:
        if host.uses_taesd(METHOD) or not (host.previews_wanted() and host.allows_changes()):
            return ""
        return str(host.option(METHOD, "another method"))

    def accept() -> None:
        if not host.allows_changes():
            raise TaesdError("Settings cannot be changed from here", "this WebUI is open to others")
        known = {key: host.option(key) for key in HOSTS_KEYS if host.option_info(key)}
        for key, value in needed_changes(known).items():
            if key in known:
                host.set_option(key, value)

    def dismiss() -> None:
        with suppress(TaesdError):
            options.set("offer", False)

    controls = [(host.settings_control(key), partial(host.option, key)) for key in HOSTS_KEYS]
    shown = [(control, value) for control, value in controls if control is not None]
    return PreviewOffer(other_method, accept, dismiss, lambda: not options.value("offer"), shown)
