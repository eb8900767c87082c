"""The options of a WebUI, and the arguments that it was started with: read, added, changed and saved."""

import contextlib
import html
from types import ModuleType
from typing import Any

from taesd_ext.errors import TaesdError, one_line

QUICK_SETTINGS = "quicksettings_list"


class StoredOptions:
    """The part of a WebUI that holds what its user set."""

    shared: ModuleType
    _options: ModuleType
    """The host's module with the class of an option."""

    def allows_changes(self) -> bool:
        """Whether whoever has the page may change files and settings: not where strangers may come by.

        The hosts set this by --share, --listen and the like, unless --enable-insecure-extension-access is given.
        """
        return not self.command_line("disable_extension_access", False)

    def command_line(self, name: str, default: Any = None) -> Any:
        """An argument that the host was started with."""
        return getattr(getattr(self.shared, "cmd_opts", None), name, default)

    def option(self, key: str, default: Any = None) -> Any:
        """The option's value now, overrides of the running generation included."""
        value = getattr(self.shared.opts, key, None)
        return default if value is None else value

    def option_info(self, key: str) -> Any:
        """The host's OptionInfo, or None where it has no such option."""
        return self.shared.opts.data_labels.get(key)

    def add_option(self, key: str, default: Any, label: str, help_text: str, section: tuple, **component: Any) -> None:
        """Add an option to the Settings tab, at the end of a section; replaces one of that key."""
        # The host puts parentheses around it: translations are found only for text that stands in an element alone.
        alone = f"<span>{html.escape(help_text, quote=False)}</span>"
        info = self._options.OptionInfo(default, label, section=section, **component).info(alone)
        self.shared.opts.add_option(key, info)

    def set_option(self, key: str, value: Any) -> None:
        """Set an option and save it, as the Settings tab does. Raises TaesdError where the host refuses.

        The host writes over its settings file, so that half a file is left where saving fails.
        """
        values = self.shared.opts.data
        before = dict(values)
        try:
            self.shared.opts.set(key, value)
        except Exception as error:  # settings can be frozen by the command line
            raise _not_changed(key, one_line(error)) from error
        if values.get(key) != value:
            raise _not_changed(key, "this WebUI does not allow it")
        try:
            self._save_options()
        except Exception as error:
            if key in before:
                values[key] = before[key]
            else:
                del values[key]
            with contextlib.suppress(Exception):
                self._save_options()
            raise _not_changed(key, one_line(error)) from error

    def settings_control(self, key: str) -> Any:
        """The gradio component that shows an option in the Settings tab, or None; the tab is built before all others.

        It keeps what it showed when the page was loaded, and Apply settings sends all of them.
        """
        return (getattr(self.shared, "settings_components", None) or {}).get(key)

    def _save_options(self) -> None:
        if config_file := getattr(self.shared, "config_filename", None):
            self.shared.opts.save(config_file)

    def make_restorable(self, key: str) -> None:
        """Before an override: the host restores only options that have a value, which on a fresh install most lack."""
        info = self.option_info(key)
        if info is not None:
            self.shared.opts.data.setdefault(key, info.default)

    def previews_wanted(self) -> bool:
        """Whether the user wants pictures while sampling; -1 stands for none until a batch is done."""
        return bool(self.option("live_previews_enable", True)) and self.preview_period() != -1

    def preview_period(self) -> int:
        return int(self.option("show_progress_every_n_steps", 1))

    def frame_format(self) -> str | None:
        """The host's live preview format where the user changed it."""
        info = self.option_info("live_previews_image_format")
        value = self.option("live_previews_image_format")
        return value if info is not None and value != info.default else None

    def quick_settings(self) -> list[str]:
        """The options at the top of the page, as of the next Reload UI."""
        return list(self.option(QUICK_SETTINGS, []))

    def add_quick_setting(self, key: str) -> bool:
        """Put an option at the top of the page, from the next Reload UI on; False where it is there already."""
        shown = self.quick_settings()
        if key in shown:
            return False
        self.set_option(QUICK_SETTINGS, [*shown, key])
        return True


def _not_changed(key: str, why: str) -> TaesdError:
    return TaesdError(f"{key} was not changed", why, "Change it in the Settings tab")
