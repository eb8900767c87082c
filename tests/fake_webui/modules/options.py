"""Options: defaults may be missing from ``data``, as in a host that was started for the first time."""

import json
from pathlib import Path


class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, section=None, infotext=None,
                 refresh=None):  # fmt: skip
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.section, self.infotext, self.refresh, self.comment_after = section, infotext, refresh, ""

    def info(self, text):
        self.comment_after += f"<span class='info'>({text})</span>"
        return self


class Options:
    def __init__(self, labels):
        vars(self).update(data_labels=labels, data={})

    def __getattr__(self, key):
        if key in vars(self)["data"]:
            return self.data[key]
        if key in self.data_labels:
            return self.data_labels[key].default
        raise AttributeError(key)

    def __setattr__(self, key, value):
        self.data[key] = value

    def add_option(self, key, info):
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def set(self, key, value, is_api=False, run_callbacks=True):
        self.data[key] = value
        return True

    def save(self, filename):
        with Path(filename).open("w", encoding="utf8") as file:
            json.dump(self.data, file, indent=4, ensure_ascii=False)
