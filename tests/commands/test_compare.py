"""The comparison: right numbers, in files that stand alone, whatever fails on the way."""

import html
import io
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from taesd_ext import cli, load_codec
from taesd_ext.codec.codec import Codec
from taesd_ext.codec.embedded import embedded_names
from taesd_ext.codec.metrics import psnr, ssim
from taesd_ext.commands import measuring
from taesd_ext.commands.compare_page import comparison_page, comparison_sheet, difference_map
from taesd_ext.commands.measuring import PeakMemory
from taesd_ext.commands.round_trip import RoundTrip, measure


@pytest.fixture(autouse=True)
def _only_these_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nothing_embedded(monkeypatch):
    monkeypatch.setattr("taesd_ext.codec.embedded.embedded_file", lambda latent_format: None)


def picture(height: int = 40, width: int = 51, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def rows_of(models: Path, *names: str, seed: int = 0) -> list[RoundTrip]:
    return [measure(load_codec(name, models_dir=models), picture(seed=seed)) for name in names]


def test_numbers_are_those_of_the_codec(models):
    codec = load_codec("taesd", models_dir=models)
    image = picture()
    row = measure(codec, image)
    decoded = codec.decode(codec.encode(image), size=(40, 51))
    assert torch.equal(row.image, decoded)
    assert row.psnr == pytest.approx(float(psnr(decoded, image)[0]))
    assert row.ssim == pytest.approx(float(ssim(decoded, image)[0]))
    assert row.latent.shape == (1, 4, 5, 7)
    assert row.encode_seconds > 0
    assert row.decode_seconds > 0
    assert row.psnr_8bit > 30
    assert row.compression == 3 * 40 * 51 / row.latent_png_bytes


@pytest.mark.usefixtures("nothing_embedded")
def test_a_codec_that_fails_is_a_row_of_its_own(models):
    rows = rows_of(models, "taesd", "taef1", "taesd3")
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert rows[1].image is None
    numbers = json.loads(json.dumps([row.numbers() for row in rows], allow_nan=False))
    assert [row["psnr"] is None for row in numbers] == [False, True, False]


def test_a_decoder_alone_draws_the_best_latent_before_it(models):
    rows = rows_of(models, "taesd", "taesd3")
    own = load_codec("taesd", models_dir=models)
    alone = Codec("decoder", own.format, decoder=own.decoder)
    row = measure(alone, picture(), rows)
    assert torch.equal(row.image, rows[0].image)
    assert rows[0].codec in row.codec
    assert row.numbers()["encode_seconds"] is None
    assert measure(alone, picture(), rows[1:]).error


def test_difference_map():
    a = torch.full((1, 3, 2, 2), 0.5)
    assert torch.allclose(difference_map(a, a + 0.1), torch.tensor(0.4))


@pytest.mark.usefixtures("nothing_embedded")
def test_the_page_stands_alone_and_escapes_names(models):
    name = '<script>alert("x")</script>.png'
    page = comparison_page([(name, picture(), rows_of(models, "taesd", "taef1"))])
    assert html.escape(name) in page
    assert "<script" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not re.search(r"https?://|@import", page)
    assert page.count("<tr>") == 2  # the head, and taesd: what failed is said below the table


def test_the_sheet_has_a_column_for_each_codec(models):
    made = [(f"{seed}.png", picture(seed=seed), rows_of(models, "taesd", "taesd3", seed=seed)) for seed in range(2)]
    with Image.open(io.BytesIO(comparison_sheet(made))) as sheet:
        assert sheet.size[0] == 12 + 3 * (320 + 12)
        pixels = np.asarray(sheet)
    cells = [pixels[52:302, 12 + column * 332 : 332 + column * 332] for column in range(3)]
    assert cells[0].std() > 30, "noise"
    for cell, row in zip(cells[1:], made[0][2], strict=True):
        assert cell.mean() / 255 == pytest.approx(float(row.image.mean()), abs=0.01)


def test_a_name_that_the_older_pillows_only_font_cannot_draw(models, monkeypatch):
    monkeypatch.setattr("taesd_ext.commands.compare_page.default_font", lambda size: ImageFont.ImageFont())
    drawn = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, *_: drawn.append(text))
    comparison_sheet([("モデル.png", picture(), rows_of(models, "taesd"))])
    assert "???.png" in drawn


def save(path: Path, image: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image[0].permute(1, 2, 0).mul(255).byte().numpy()).save(path)


def test_on_the_command_line(models, tmp_path):
    save(tmp_path / "in" / "a.png", picture())
    save(tmp_path / "in" / "sub" / "a.png", picture(200, 100))
    out = tmp_path / "out"
    assert cli.main(["compare", str(tmp_path / "in"), "-o", str(out), "--models", str(models), "--side", "64"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["compare.html", "compare.json", "compare.png"]
    found = json.loads((out / "compare.json").read_text())["pictures"]
    assert [(one["name"], one["width"], one["height"]) for one in found] == [("a.png", 51, 40), ("sub/a.png", 32, 64)]
    wanted = ["taesd", "taesd3", "taef2", *(load_codec(name).title for name in embedded_names())]
    assert [[codec["codec"] for codec in one["codecs"]] for one in found] == [wanted, wanted]


@pytest.mark.usefixtures("nothing_embedded")
def test_what_fails_is_said_and_the_rest_is_made(models, tmp_path, capsys):
    save(tmp_path / "in" / "a.png", picture())
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    command = ["compare", "in", "-o", "out", "--models", str(models), "--codecs"]
    assert cli.main([*command, "taef1"]) == 1
    assert not (tmp_path / "out").exists()
    assert "Nothing could be compared" in capsys.readouterr().err
    assert cli.main([*command, "taesd,taesana,taef1"]) == 1
    said = capsys.readouterr().err
    for words in ("b.png is not a readable picture", "No weights for taesana", "taef1 with a.png"):
        assert words in said
    assert (tmp_path / "out" / "compare.html").exists()


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
def test_a_name_that_is_no_text(models, tmp_path):
    save(tmp_path / "in" / os.fsdecode(b"caf\xe9.png"), picture())
    assert cli.main(["compare", "in", "-o", "out", "--models", str(models), "--codecs", "taesd"]) == 0
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["pictures"][0]["name"] == r"caf\xe9.png"
    assert r"caf\xe9.png" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of memory")
def test_peak_memory_sees_what_was_taken_and_given_back(monkeypatch, tmp_path):
    with PeakMemory() as memory:
        torch.ones(40_000_000, dtype=torch.uint8)
    with PeakMemory() as nothing:
        pass
    assert 35e6 < memory.bytes < 80e6
    assert nothing.bytes < 20e6
    monkeypatch.setattr(measuring, "_PROCESS", tmp_path)
    with PeakMemory() as unknown:
        pass
    assert unknown.bytes is None
