import dataclasses

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taesd_ext.settings import OPTION, OPTIONS, PreviewSettings, option_value


def test_keys_are_prefixed_and_unique_and_defaults_are_allowed():
    keys = [option.key for option in OPTIONS]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("taesd_ext_") for key in keys)
    assert all(option.check(option.default) == option.default and option.label and option.help for option in OPTIONS)


def test_preview_settings_have_the_defaults_of_the_table():
    assert PreviewSettings.from_options({}) == PreviewSettings()


def test_values_are_read_by_key_and_by_name():
    settings = PreviewSettings.from_options({"taesd_ext_family": "taesdxl", "interval": 4.0, "unknown": 1})
    assert (settings.family, settings.interval) == ("taesdxl", 4)
    assert type(settings.interval) is int


@pytest.mark.parametrize(
    ("name", "bad"),
    [("family", "nonsense"), ("interval", -1), ("interval", "x"), ("interval", True), ("budget", float("nan")),
     ("detail", 2), ("frame_format", ["jpeg"]), ("max_side", 10**9), ("interval", 10**400), ("budget", -(10**400)),
     ("budget", float("inf")), ("final_vae", "caf\udce9"), ("final_vae", "\ud800"), ("final_vae", "x" * 256)],
)  # fmt: skip
def test_a_bad_value_is_the_default_and_said_once(name, bad, caplog):
    option = OPTION[name]
    for _ in range(3):
        assert option_value(name, {option.key: bad}) == option.default
    assert len([r for r in caplog.records if option.key in r.getMessage()]) <= 1


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([o.key for o in OPTIONS]), st.none() | st.text() | st.integers() | st.floats()))
def test_any_mapping_gives_valid_settings(values):
    settings = PreviewSettings.from_options(values)
    for name, value in dataclasses.asdict(settings).items():
        if name != "enabled":
            assert OPTION[name].check(value) == value
