"""learn makes the shipped files; here in miniature, from the real weights."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from taesd_ext.cli import main
from taesd_ext.codec.latent_file import latent_bytes
from taesd_ext.codec.latent_note import note_for
from taesd_ext.codec.loading import load_codec
from taesd_ext.codec.picture_file import picture_to_image
from taesd_ext.commands import learn_vae
from taesd_ext.commands.outputs import write_atomically
from taesd_ext.commands.progress import progress
from taesd_ext.commands.quality import read_photos
from taesd_ext.latent_formats import BY_NAME
from taesd_ext.learning import heads, lessons, previewers, small_codec, tiny_decoder
from taesd_ext.learning.linear import fit_linear, row_text
from taesd_ext.learning.pairs import LatentKind
from taesd_ext.learning.readout import find_learnt


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lessons, "LESSON_PIXELS", 32)
    monkeypatch.setattr(heads, "HEAD_TEACHERS", {8: (), 4: ((2, 2),), 2: ()})
    monkeypatch.setattr(heads, "HELD_BACK", 2)
    monkeypatch.setattr(heads, "WORST_ALLOWED", 0.0)
    monkeypatch.setattr(previewers, "HELD_BACK", 2)
    monkeypatch.setattr(small_codec, "HELD_BACK", 2)
    monkeypatch.setattr(small_codec, "SIDE", 64)
    monkeypatch.setattr(learn_vae, "SIDE", 64)
    monkeypatch.setattr(learn_vae, "PREVIEWER_SIDE", 64)
    for module in (learn_vae, tiny_decoder):
        monkeypatch.setattr(module, "HELD_BACK", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _learn(output: Path, weights_dir: Path, *options: str) -> int:
    return main(["learn", "--models", str(weights_dir), "-o", str(output), *options])


@pytest.mark.parametrize(
    ("kind", "name", "steps", "logged"),
    [([], "heads_taesd", 3, 0), (["--previewer"], "previewer_sd1", 3, 4), (["--codec"], "codec_sd1", 17, 22)],
)
def test_a_shipped_file_is_the_same_from_the_same_seed(
    kind: list[str], name: str, steps: int, logged: int, weights_dir: Path, tmp_path: Path
) -> None:
    for folder in "ab":
        options = (*kind, "--family", "taesd", "--latents", "2", "--steps", str(steps))
        assert _learn(tmp_path / folder, weights_dir, *options) == 0
    first, again = (load_file(tmp_path / folder / f"{name}.safetensors") for folder in "ab")
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    log = (tmp_path / "a" / f"{name}.log").read_text(encoding="utf-8")
    assert f"seed 0, {steps} steps, 2 latents" in log
    assert log.count("step ") == logged


def test_what_cannot_be_made_is_said(weights_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ([], ["--previewer"], ["--codec"]):
        assert _learn(tmp_path, weights_dir, "--family", "taesana", *kind) == 1
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["taesana"] * 3


def test_measures_what_finished_pictures_teach(
    weights_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        Image.effect_mandelbrot((96, 64), (-2, -1.5, 1, 1.5), 100).save(tmp_path / f"{name}.png")
    assert _learn(tmp_path, weights_dir, "--family", "taesd", "--measure-learning", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["published", "shipped", "1", "2", "4", "8"]


def test_measures_photographs(weights_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.effect_mandelbrot((70, 64), (-2, -1.5, 1, 1.5), 100).save(tmp_path / "picture.png")
    assert _learn(tmp_path, weights_dir, "--family", "taesd", "--measure", str(tmp_path)) == 0
    said = capsys.readouterr().out
    previews = ("detail 1/8", "detail 1/4", "detail 1/2", "embedded previewer", "linear RGB", "8-bit PNG round trip")
    assert all(name in said for name in previews)
    (tmp_path / "empty").mkdir()
    assert _learn(tmp_path, weights_dir, "--family", "taesd", "--measure", str(tmp_path / "empty")) == 1


@pytest.mark.parametrize("measured", ["nope", "afile"])
def test_mistakes_are_found_before_a_codec_is_loaded(measured: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("taesd_ext.commands.learn.load_codec", lambda *_, **__: pytest.fail("it began"))
    (tmp_path / "afile").write_bytes(b"mine")
    assert main(["learn", "--family", "taesd", "--measure", str(tmp_path / measured)]) == 1
    said = capsys.readouterr().err
    assert measured in said
    assert len(said.splitlines()) == 1


def test_a_picture_that_cannot_be_read_is_named(weights_dir: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    assert _learn(tmp_path, weights_dir, "--family", "taesd", "--measure", str(tmp_path)) == 1
    assert "empty.png is not a readable picture" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "shape"), [((70, 64), (64, 64)), ((33, 20), (32, 32)), ((600, 100), (96, 512))])
def test_the_middle_of_a_picture_is_measured(size: tuple[int, int], shape: tuple[int, int], tmp_path: Path) -> None:
    picture = Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 100).convert("RGB")
    picture.save(tmp_path / "picture.png")
    (photo,) = read_photos(tmp_path)
    left, top = (size[0] - shape[1]) // 2, (size[1] - shape[0]) // 2
    wanted = picture.crop((left, top, left + shape[1], top + shape[0]))
    assert torch.equal(photo, picture_to_image(wanted))


def test_measures_stored_latents_of_the_family(
    weights_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, kind in (("a", "sd1"), ("b", "sd1"), ("foreign", "sdxl")):
        latent = torch.randn(1, 4, 8, 9, generator=torch.Generator().manual_seed(0))
        note = note_for(latent, BY_NAME[kind].family, BY_NAME[kind], (64, 72))
        (tmp_path / f"{name}.safetensors").write_bytes(latent_bytes(".safetensors", latent, note))
    assert _learn(tmp_path, weights_dir, "--family", "taesd", "--measure", str(tmp_path)) == 0
    assert "taesd, 2 pictures" in capsys.readouterr().out
    assert _learn(tmp_path, weights_dir, "--family", "taef1", "--measure", str(tmp_path)) == 1
    assert "No latent in" in capsys.readouterr().out


class _SampleCodec:
    """Encodes a picture to two channels that are linear in its colours."""

    family = "sample"
    has_encoder = True
    spatial_scale_factor = 8

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(image, 8) * 2 - 1
        return torch.stack([small[:, 0] + small[:, 1], small[:, 1] - small[:, 2], small[:, 2]], dim=1)


def test_a_linear_row_is_found() -> None:
    factors, bias, quality = fit_linear(_SampleCodec(), progress, pictures=24)
    assert quality > 45
    assert torch.allclose(factors.T, torch.tensor([[1.0, -1, -1], [0, 1, 1], [0, 0, 1]]), atol=0.05)
    assert bias.abs().max() < 0.05
    assert len(json.loads(row_text(factors, bias))["factors"]) == 3


def _learn_vae(output: Path, weights_dir: Path, *options: str) -> int:
    return main(["learn", "--vae", "taesd", "--models", str(weights_dir), "-o", str(output), *options])


def test_a_vaes_previewer_serves_whoever_gets_its_file(weights_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "folder" / "mine.safetensors"
    assert _learn_vae(output, weights_dir, "--latents", "5", "--steps", "2") == 0
    for host_name, found in (("SD15", True), ("SDXL", False)):
        assert bool(find_learnt(LatentKind(host_name, 4), [output.parent])) == found


def test_a_tiny_decoder_for_an_unknown_vae(weights_dir: Path, tmp_path: Path, capsys) -> None:
    output, photos = tmp_path / "mine.pth", tmp_path / "photos"
    photos.mkdir()
    Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 100).save(photos / "photo.png")
    options = ("--tiny", "taesd", "--turned", "--latents", "8", "--steps", "2", "--exam", str(photos))
    assert _learn_vae(output, weights_dir, *options) == 0
    assert [path.name for path in output.parent.iterdir() if path.is_file()] == [output.name]
    own, tiny, _ = (float(line.split(": ")[1].split()[0]) for line in capsys.readouterr().out.splitlines()[-4:-1])
    assert abs(own - tiny) < 6
    codec = load_codec(output)
    assert codec.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 3, 64, 64)
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.AutoencoderTiny().decoder.layers
    state = [(*name.split(".", 1), value) for name, value in codec.decoder.state_dict().items()]
    theirs.load_state_dict({f"{int(index) - 1}.{rest}": value for index, rest, value in state})


def test_a_training_that_broke_off_is_gone_on_from(weights_dir: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    options = ("--tiny", "taesd", "--latents", "8", "--steps", "4")
    written = []

    def break_off(path: Path, data: bytes) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        write_atomically(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(learn_vae, "KEEP_EVERY", 3)
        patched.setattr(learn_vae, "write_atomically", break_off)
        assert _learn_vae(tmp_path / "mine.safetensors", weights_dir, *options) != 0
    capsys.readouterr()
    assert _learn_vae(tmp_path / "mine.safetensors", weights_dir, *options) == 0
    steps = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert steps[0] == "step 3"
    assert steps[-1] == "step 12"
    assert load_codec(tmp_path / "mine.safetensors").has_decoder


@pytest.mark.parametrize(
    "options", [("-o", "mine.txt"), ("--tiny", "taesana"), ("--tiny", "taesd", "--pictures", "small")]
)
def test_what_no_vae_can_teach_is_said_first(options, weights_dir: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    Image.new("RGB", (8, 8)).save("small/one.png")
    assert _learn_vae(tmp_path / "mine.safetensors", weights_dir, *options) == 1
    assert not list(tmp_path.glob("*.safetensors"))
