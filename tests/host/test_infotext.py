"""Settings that make a picture come back from its generation parameters, whatever files are called."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from taesd_ext.codec.codec import Source
from taesd_ext.host import infotext
from taesd_ext.host.accordion import ARGUMENTS, AS_SET, choices_of, pasted_final_vae
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.settings import HOSTS_VAE, INFOTEXT_MODEL, INFOTEXT_STEP, INFOTEXT_VAE, OPTION, TINY_VAE
from taesd_ext.weights.installed_vaes import canonical_name
from taesd_ext.weights.tiny_file import PARTS
from taesd_ext.weights.vae_table import VAES

NO_FILE_NAME = '\0/\\"'
"""Characters that no file is called by, or that the WebUI's own reader of parameters stumbles over."""

CHARACTERS = st.characters(exclude_characters=NO_FILE_NAME, exclude_categories=["Cs"])
TITLES = st.text(CHARACTERS, min_size=1, max_size=40).filter(
    lambda title: canonical_name(title) == title and title not in (HOSTS_VAE, TINY_VAE, AS_SET, ".", "..")
)
KNOWN_TITLES = st.sampled_from([stem for row in VAES for stem in row.stems])
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)
BEFORE = {"Steps": 20, "Sampler": "Euler", "CFG scale": 7, "Seed": 1, "Size": "64x64", "Model": "x, y: z"}


def written(parameters: dict[str, object]) -> str:
    """The last line of the parameters, as A1111 and its forks write it."""

    def quoted(value: object) -> str:
        return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", str(value)) else str(value)

    return ", ".join(f"{key}: {quoted(value)}" for key, value in parameters.items())


def parsed(line: str) -> dict[str, str]:
    """Key -> value, as they read it when a picture is sent back to the page."""
    found = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line)
    return {key: json.loads(value) if value.startswith('"') else value for key, value in found}


def processing() -> SimpleNamespace:
    return SimpleNamespace(extra_generation_params={})


def codec(path: Path, name: str = "") -> SimpleNamespace:
    return SimpleNamespace(name=name or path.stem, image_scale=1, source=Source(path, path))


def record(p: SimpleNamespace, part: str, by: SimpleNamespace | None) -> None:
    infotext.record(p, part, infotext.made_by(by, part) if by else {})


def chosen_by(parameters: dict[str, str], in_settings: str) -> str:
    """The VAE that makes the next picture when these parameters were sent to the page."""
    control = pasted_final_vae(parameters, in_settings)
    return choices_of((True, AS_SET, 0, AS_SET, control)).final_vae or in_settings


@given(title=TITLES | KNOWN_TITLES, sha256=SHA256, in_settings=st.sampled_from((HOSTS_VAE, TINY_VAE)) | KNOWN_TITLES)
@example(title="a, b: c (0.9)", sha256="a" * 64, in_settings=HOSTS_VAE)
@example(title="日本 \u2028 vae", sha256="a" * 64, in_settings=TINY_VAE)
def test_a_vae_of_any_name_comes_back(title: str, sha256: str, in_settings: str) -> None:
    p = processing()
    with mock.patch.object(infotext, "_sha256", return_value=sha256):
        record(p, "decoder", codec(Path("models/VAE") / f"{title}.safetensors"))
    parameters = parsed(written({**BEFORE, **p.extra_generation_params, "Version": "v1.10.1"}))
    assert parameters["Version"] == "v1.10.1"
    assert parameters["Model"] == BEFORE["Model"]
    assert canonical_name(chosen_by(parameters, canonical_name(in_settings))) == canonical_name(title)


@given(in_settings=st.sampled_from((HOSTS_VAE, TINY_VAE)) | KNOWN_TITLES)
def test_a_picture_of_the_hosts_own_vae_asks_for_it_again(in_settings: str) -> None:
    p = processing()
    record(p, "decoder", None)
    assert p.extra_generation_params == {}
    assert chosen_by(parsed(written(BEFORE)), in_settings) == HOSTS_VAE


@given(steps=st.lists(st.tuples(st.sampled_from(PARTS), st.none() | st.sampled_from(FAMILIES))), sha256=SHA256)
def test_the_models_named_are_those_that_worked_last(steps: list[tuple[str, str | None]], sha256: str) -> None:
    """Each half by itself, in any order: the host encodes and decodes more than once with hires fix."""
    p, last = processing(), {}
    with mock.patch.object(infotext, "_sha256", return_value=sha256):
        for part, family in steps:
            record(p, part, codec(Path("x.pth"), family) if family else None)
            last[part] = family
    parameters = parsed(written({**BEFORE, **p.extra_generation_params, "Version": "v1.10.1"}))
    named = set(filter(None, parameters.get(INFOTEXT_MODEL, "").split(" + ")))
    assert named == {f"{family} {part} {sha256[:8]}" for part, family in last.items() if family}
    assert {key for key in parameters if key.startswith("VAE ")} == {
        infotext.HOST_KEY[part] for part, family in last.items() if family
    }


@given(title=TITLES, family=st.none() | st.sampled_from(FAMILIES), prompt=st.text(max_size=50), sha256=SHA256)
def test_decoding_again_changes_what_decoded_and_nothing_else(
    title: str, family: str | None, prompt: str, sha256: str
) -> None:
    p = processing()
    with mock.patch.object(infotext, "_sha256", return_value=sha256):
        record(p, "decoder", codec(Path(f"{title}.safetensors")))
        before = written({**BEFORE, **p.extra_generation_params, "Version": "v1.10.1"})
        after = infotext.decoded_again(f"{prompt}\n{before}", codec(Path("x.pth"), family) if family else None)
    assert after.startswith(f"{prompt}\n")
    parameters = parsed(after[len(prompt) + 1 :])
    assert INFOTEXT_VAE not in parameters
    assert parameters.get(INFOTEXT_MODEL) == (f"{family} decoder {sha256[:8]}" if family else None)
    ours = {INFOTEXT_MODEL, infotext.HOST_KEY["decoder"], "Decoded again"}
    assert {key: value for key, value in parameters.items() if key not in ours} == {
        **{key: str(value) for key, value in BEFORE.items()}, "Version": "v1.10.1",
    }  # fmt: skip


@given(title=TITLES | KNOWN_TITLES, before=st.none() | st.sampled_from(FAMILIES), sha256=SHA256)
@example(title="a, b: c (0.9)", before="taesd", sha256="a" * 64)
def test_decoding_again_by_a_full_vae_asks_for_that_vae(title: str, before: str | None, sha256: str) -> None:
    p = processing()
    with mock.patch.object(infotext, "_sha256", return_value=sha256):
        record(p, "decoder", codec(Path("x.pth"), before) if before else None)
        line = written({**BEFORE, **p.extra_generation_params, "Version": "v1.10.1"})
        after = infotext.decoded_again(f"prompt\n{line}", codec(Path("models/VAE") / f"{title}.safetensors"))
    parameters = parsed(after.removeprefix("prompt\n"))
    assert canonical_name(chosen_by(parameters, HOSTS_VAE)) == canonical_name(title)
    assert not {infotext.HOST_KEY["decoder"], INFOTEXT_MODEL} & parameters.keys()
    assert parameters["Version"] == "v1.10.1"


def test_a_moments_parameters_name_its_step() -> None:
    moment = infotext.decoded_again("scene\nSteps: 24, Version: 1.10.1", None, "14/24")
    assert parsed(moment.removeprefix("scene\n")) == {"Steps": "24", INFOTEXT_STEP: "14/24", "Version": "1.10.1"}


def test_a_vae_whose_file_has_another_name_is_named_as_it_is_chosen(tmp_path: Path) -> None:
    file = tmp_path / "mse.safetensors"
    file.write_bytes(b"x")
    again = infotext.decoded_again("scene\nSteps: 4, Version: 1.10.1", codec(file, "sd-vae-ft-mse"))
    assert chosen_by(parsed(again.removeprefix("scene\n")), HOSTS_VAE) == "sd-vae-ft-mse"


@given(
    enabled=st.booleans(), family=st.sampled_from((None, *OPTION["family"].choices)),
    interval=st.none() | st.integers(1, 100), detail=st.sampled_from((None, *OPTION["detail"].choices)),
    final_vae=st.none() | TITLES, final_vae_first=st.none() | TITLES,
)  # fmt: skip
def test_the_controls_of_a_generation_come_back_from_its_arguments(**wanted: object) -> None:
    """As a list, in which the page sends them, and as an object, which the API takes too."""
    page = [AS_SET if wanted[name] is None and name != "interval" else wanted[name] or 0 for name in ARGUMENTS]
    page[0] = wanted["enabled"]
    assert vars(choices_of(page)) == wanted
    assert vars(choices_of([wanted])) == wanted
