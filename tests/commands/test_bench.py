"""``bench``: its figures come from what it says they come from. Times themselves are not asserted."""

import argparse
import io
import json

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from taesd_ext.cli import main
from taesd_ext.commands import bench, bench_films, bench_full, bench_webui
from taesd_ext.commands.approx_nn import find_approx_nn
from taesd_ext.commands.bench_ways import BASELINE, DIFFUSERS, TILINGS, Bench, Way, measure_memory
from taesd_ext.commands.measuring import Timed
from taesd_ext.errors import TaesdError


def test_every_way_is_measured_against_the_webuis_also_without_a_file(tmp_path):
    arguments = ["bench", "--quick", "--families", "taesd", "--sizes", "64", "--models", str(tmp_path)]
    assert main([*arguments, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    ways = [(row["way"], row["dtype"]) for row in report["frames"]]
    assert ways[0] == (BASELINE, "fp32")
    assert {(detail, dtype) for detail in ("full", "1/2", "1/4", "1/8") for dtype in ("fp32", "auto")} <= {*ways}
    assert report["frames"][0]["cheaper"] == 1
    assert all(row["ms"] > 0 and row["frame_bytes"] > 50 for row in report["frames"])
    assert report["hardware"]["torch"] == torch.__version__


def test_ratios_are_taken_round_by_round(monkeypatch):
    seconds = {"base": iter([1.0, 4.0, 40.0, 4.0]), "own": iter([1.0, 2.0, 20.0, 1.0])}
    monkeypatch.setattr(bench, "timed", lambda work: Timed(name := work(), next(seconds[name]), 1.0))
    ways = [Way(name, "fp32", lambda name=name: lambda latent: name) for name in seconds]
    _, row = bench.frame_rows(Bench("taesd"), ways, 64, rounds=3, memory=False)
    assert row == {
        "family": "taesd", "side": 64, "way": "own", "dtype": "fp32", "ms": 2000, "cpu_ms": 1000, "cheaper": 2,
        "cpu_cheaper": 1, "frame_bytes": 3, "peak_bytes": None,
    }  # fmt: skip


@pytest.mark.parametrize(("rounds", "times"), [(1, 1), (2, 2), (5, bench.SLOW_ROUNDS)])
def test_a_slow_way_is_timed_from_its_first_call_on(rounds, times, monkeypatch):
    calls = []
    monkeypatch.setattr(bench, "timed", lambda work: Timed(work(), 2 * bench.SLOW_SECONDS, 1.0))
    way = Way("slow", "fp32", lambda: lambda latent: calls.append(latent) or b"")
    bench.frame_rows(Bench("taesd"), [way], 64, rounds, memory=False)
    assert len(calls) == times


def test_the_frames_show_the_same_picture(weights_dir):
    """Each way's bytes are a picture of the latent: otherwise their times would not be comparable."""
    subject = Bench("taesd", (str(weights_dir),))
    latent = subject.codec().encode(torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), (128, 128), mode="bicubic"))
    pictures = {}
    for way in subject.ways(full_vae=False):
        if way.name != DIFFUSERS:
            opened = Image.open(io.BytesIO(way.prepare()(latent))).convert("RGB")
            pictures[way.label] = np.asarray(opened.resize((16, 16), Image.Resampling.BOX), dtype=float)
    baseline = pictures.pop(f"{BASELINE}, fp32")
    assert len(pictures) >= 8
    for label, picture in pictures.items():
        limit = 60 if label.startswith("linear") else 12
        assert np.abs(picture - baseline).mean() < limit, label


def test_tiles_are_compared_with_the_whole(tmp_path, weights_dir, monkeypatch):
    monkeypatch.setattr(bench, "measure_memory", lambda _, label, side: len(label) << 20)
    arguments = ["bench", "--tiles", "--families", "taesd", "--sizes", "64", "--models", str(weights_dir)]
    assert main([*arguments, "--json", str(tmp_path / "report.json")]) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["frames"]
    assert [(row["way"], row["dtype"]) for row in rows] == [
        (way, dtype) for dtype in ("fp32", "auto") for way in TILINGS
    ]
    assert [row["peak_bytes"] for row in rows] == [len(f"{row['way']}, {row['dtype']}") << 20 for row in rows]
    assert rows[0]["cheaper"] == rows[2]["cheaper"] == 1


def test_films_are_compared_with_neos(monkeypatch):
    """Each way's bytes are a film of the latents, at the detail that it says."""
    monkeypatch.setattr(bench_films, "LATENT_FRAMES", 4)
    subject = bench_films.FilmBench("taew2_1")
    films = [Image.open(io.BytesIO(way.prepare()(subject.latent(32)))) for way in subject.ways()]
    assert [film.size[0] for film in films] == [32, 32, 16, 8, 4, 4, 4]
    assert [film.format for film in films] == ["GIF", *["WEBP"] * 6]


DC_WIDTHS = (16, 16, 16, 32, 64, 128)


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("taesd", {"block_out_channels": (32,) * 4}),
        ("taew2_1", {"base_dim": 8, "z_dim": 16}),
        ("taesana", {"encoder_block_out_channels": DC_WIDTHS, "decoder_block_out_channels": DC_WIDTHS}),
    ],
)
def test_full_vaes_are_compared_with_diffusers(family, size, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    name, arguments = bench_full.KINDS[family]
    monkeypatch.setitem(bench_full.KINDS, family, (name, arguments | size))
    monkeypatch.setattr(bench_full, "COMPARED_SIDE", 64)
    with bench_full.full_benches(family) as benches:
        found = {way: error for bench in benches for way, error in bench_full.differences(bench).items()}
    assert {way.split(",")[0] for way in found} == {"encode", "decode"}
    assert max(error for way, error in found.items() if way.endswith("fp32")) < 1e-4


def test_memory_is_that_of_a_process_of_its_own():
    peak = measure_memory(Bench("taesd"), "full, fp32", 256)
    assert peak is None or 10 << 20 < peak < 200 << 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--families", "nonsense"], "no family nonsense"),
        (["--sizes", "big"], "not a list of numbers"),
        (["--sizes", "8"], "too few"),
        (["--pictures", "/nope"], "Cannot read the folder /nope"),
        (["--pictures", "pictures"], "empty.png is not a readable picture"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(options, words, weights_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "frame_rows", lambda *_, **__: pytest.fail("it began to measure"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "empty.png").write_bytes(b"")
    assert main(["bench", "--quick", "--families", "taesd", "--models", str(weights_dir), *options]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_approx_nn_has_the_published_shape(tmp_path):
    sizes = zip((4, 8, 16, 32, 64, 32, 16, 8), (8, 16, 32, 64, 32, 16, 8, 3), (7, 5, 3, 3, 3, 3, 3, 3), strict=True)
    network = nn.ModuleDict({f"conv{index}": nn.Conv2d(*size) for index, size in enumerate(sizes, 1)})
    (tmp_path / "VAE-approx").mkdir()
    torch.save(network.state_dict(), tmp_path / "VAE-approx" / "model.pt")
    preview = find_approx_nn("sd1", [tmp_path])
    image = preview(torch.randn(1, 4, 8, 9))
    assert image.shape == (1, 3, 16, 18)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert find_approx_nn("flux1", [tmp_path]) is None
    assert find_approx_nn("sdxl", [tmp_path]) is None


@pytest.fixture
def webui_args():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return parser.parse_args(["--webui", "http://127.0.0.1:9", "--rounds", "3"])


@pytest.mark.parametrize(("history", "times"), [(False, [1.0, 1.5, 1.025]), (True, [1.0, 1.01])])
def test_a_webuis_rounds_are_interleaved_and_its_options_put_back(webui_args, monkeypatch, history, times):
    webui_args.history = history
    settings = bench_webui.HISTORY if history else bench_webui.SETTINGS
    options = {"live_previews_enable": True, "show_progress_type": "Approx NN", "show_progress_every_n_steps": 10,
               "taesd_ext_family": "taesdxl", "taesd_ext_timeline": True, "taesd_ext_keep_latents": True}  # fmt: skip
    original, order, others = dict(options), [], [*settings][-1]
    seconds = {name: 2 * ratio for name, ratio in zip(settings, times, strict=True)}

    def call(self, path, data=None):
        options.update(data or {})
        return dict(options)

    def generate(self, args):
        order.append(next(name for name, change in settings.items() if change.items() <= options.items()))
        return seconds[order[-1]], [512] * 4, ["other" if order[-1] == others else "picture"]

    monkeypatch.setattr(bench_webui.WebUI, "call", call)
    monkeypatch.setattr(bench_webui.WebUI, "generate", generate)
    rows = bench_webui.measure(webui_args)["rows"]
    assert order[: 2 * len(seconds)] == [*seconds, *reversed(seconds)]
    assert options == original
    assert [row["times_first"] for row in rows] == times
    assert [row["same"] for row in rows] == [*["yes"] * (len(settings) - 1), "no"]
    assert {(len(row["seconds"]), row["frames"], row["kilobytes"]) for row in rows} == {(3, 4, 2.0)}


def test_a_host_without_the_extension_is_refused(webui_args, monkeypatch):
    monkeypatch.setattr(bench_webui.WebUI, "call", lambda *_: {"live_previews_enable": True})
    with pytest.raises(TaesdError, match="runs without this extension"):
        bench_webui.measure(webui_args)


def test_a_webui_is_asked_and_its_refusal_is_told(monkeypatch):
    for url in ("127.0.0.1:7860", "file:///etc/hostname"):
        with pytest.raises(TaesdError, match="not the address"):
            bench_webui.WebUI(url)

    def handle(request):
        return httpx.Response(404) if request.url.path == "/none" else httpx.Response(200, json=[request.method])

    host = bench_webui.WebUI("http://host:1/")
    monkeypatch.setattr(host, "_client", httpx.Client(transport=httpx.MockTransport(handle)))
    assert host.call("/options") == ["GET"]
    assert host.call("/options", {}) == ["POST"]
    with pytest.raises(TaesdError, match="404"):
        host.call("/none")
