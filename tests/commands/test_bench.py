"""``bench``: its figures come from what it says they come from. Times themselves are not asserted."""

from __future__ import annotations

import argparse
import json
import sys

import pytest
import torch

from taesd_ext.cli import main
from taesd_ext.commands import bench, bench_webui
from taesd_ext.commands.approx_nn import SCALE, ApproxNN, find_approx_nn
from taesd_ext.commands.bench_memory import measure_memory
from taesd_ext.commands.bench_ways import BASELINE, Bench, Way
from taesd_ext.errors import TaesdError


@pytest.fixture(scope="module")
def report(tmp_path_factory, weights_dir):
    folder = tmp_path_factory.mktemp("bench")
    file = folder / "report.json"
    arguments = ["bench", "--quick", "--families", "taesd", "--sizes", "64", "--models", str(weights_dir)]
    assert main([*arguments, "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_names_the_hardware(report):
    found = report["hardware"]
    assert found["torch"] == torch.__version__
    assert found["cpu"]
    assert found["cores"] >= found["threads"] >= 1
    assert found["auto_dtype"] in ("float32", "bfloat16", "float16")


def test_every_way_is_measured_against_the_webuis(report):
    ways = [(row["way"], row["dtype"]) for row in report["speed"]]
    assert ways[0] == (BASELINE, "fp32")
    for detail in ("full", "1/2", "1/4", "1/8"):
        assert (detail, "fp32") in ways
        assert (detail, "auto") in ways
    assert report["speed"][0]["cheaper"] == 1
    assert all(row["ms"] > 0 and row["bytes"] > 50 for row in report["speed"])


def test_ratios_are_taken_round_by_round(monkeypatch):
    clock = iter([(4.0, 4.0), (2.0, 2.0), (40.0, 4.0), (20.0, 2.0), (4.0, 4.0), (1.0, 1.0)])
    monkeypatch.setattr(bench, "_timed", lambda frame, latent: next(clock))
    ways = [Way(BASELINE, "fp32", lambda: lambda latent: b"123"), Way("full", "fp32", lambda: lambda latent: b"1")]
    rows = bench.time_ways(Bench("taesd"), ways, 64, rounds=3)
    assert rows[1] == {
        "way": "full", "dtype": "fp32", "ms": 2.0, "cpu_ms": 2.0, "cheaper": 2.0, "cpu_cheaper": 2.0, "bytes": 1,
    }  # fmt: skip


def test_the_frames_show_the_same_picture(weights_dir):
    """Each way's bytes are a picture of the latent: otherwise their times would not be comparable."""
    import io

    import numpy as np
    from PIL import Image

    subject = Bench("taesd", (str(weights_dir),))
    latent = subject.codec().encode(torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), (128, 128), mode="bicubic"))
    pictures = {}
    for way in subject.ways(full_vae=False):
        if way.name != "diffusers AutoencoderTiny":
            opened = Image.open(io.BytesIO(way.prepare()(latent))).convert("RGB")
            pictures[way.label] = np.asarray(opened.resize((16, 16), Image.Resampling.BOX), dtype=float)
    baseline = pictures.pop(f"{BASELINE}, fp32")
    assert len(pictures) >= 8
    for label, picture in pictures.items():
        limit = 60 if label.startswith("linear") else 12
        assert np.abs(picture - baseline).mean() < limit, label


def test_tiles_are_compared_with_the_whole(tmp_path, weights_dir, monkeypatch):
    monkeypatch.setattr("taesd_ext.commands.bench_tiles.measure_memory", lambda bench, label, side: len(label) << 20)
    arguments = ["bench", "--tiles", "--families", "taesd", "--sizes", "256", "--models", str(weights_dir)]
    assert main([*arguments, "--json", str(tmp_path / "report.json")]) == 0
    rows = json.loads((tmp_path / "report.json").read_text())["tiles"]
    assert [(row["side"], row["dtype"]) for row in rows] == [(256, "fp32"), (256, "auto")]
    assert all(row["times_whole"] > 0 for row in rows)
    assert (rows[0]["whole_bytes"], rows[0]["tiles_bytes"]) == (len("whole decode, fp32") << 20, 17 << 20)


def test_memory_is_that_of_a_process_of_its_own():
    peak = measure_memory(Bench("taesd"), "full, fp32", 256)
    assert peak is None or 10 << 20 < peak < 200 << 20


def test_a_plot_is_drawn(report, tmp_path):
    pytest.importorskip("matplotlib")
    from taesd_ext.commands.bench_plot import plot

    quality = [{"family": "taesd", "preview": "detail 1/8", "scale": 8, "psnr": 31.0, "worst_psnr": 27.0, "ssim": 0.9}]
    memory = [{"family": "taesd", "side": 64, "way": "full", "dtype": "fp32", "bytes": 1 << 20}]
    plot({**report, "quality": quality, "memory": memory}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong", [["--families", "nonsense"], ["--sizes", "big"], ["--sizes", "8"]])
def test_misuse_is_said_in_one_line(wrong, capsys):
    assert main(["bench", "--quick", *wrong]) != 0
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--json", "afile/x.json"], "afile is a file, no folder"),
        (["--json", "afile"], "afile is already there"),
        (["--json", "."], "it is a folder"),
        (["--plot", "x.xyz"], "its suffix is unknown"),
        (["--plot", "afile.png"], "afile.png is already there"),
        (["--plot", "x.png", "--json", "x.png"], "written twice"),
        (["--plot", "x.png", "--tiles"], "no plot for this"),
        (["--pictures", "/nope"], "Cannot read the folder /nope"),
        (["--pictures", "pictures"], "empty.png is no readable picture"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(options, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "time_ways", lambda *_: pytest.fail("it began to measure"))
    monkeypatch.setattr(bench, "measure_tiles", lambda *_: pytest.fail("it began to measure"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("afile", "afile.png"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "pictures" / "empty.png").write_bytes(b"")
    assert main(["bench", "--quick", "--families", "taesd", *options]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "afile").read_bytes() == (tmp_path / "afile.png").read_bytes() == b"mine"


def test_no_matplotlib_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda *_: pytest.fail("it began to measure"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--plot", str(tmp_path / "x.png")]) == 1
    assert "pip install" in capsys.readouterr().err


def test_figures_are_replaced_when_told(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *_: {"speed": []})
    (tmp_path / "x.json").write_bytes(b"old")
    assert main(["bench", "--json", str(tmp_path / "x.json"), "--overwrite"]) == 0
    assert json.loads((tmp_path / "x.json").read_text()) == {"speed": []}


def test_approx_nn_has_the_published_shape(tmp_path):
    network = ApproxNN(4)
    assert network(torch.zeros(1, 4, 8, 9)).shape == (1, 3, 16, 18)
    assert SCALE == 4
    (tmp_path / "VAE-approx").mkdir()
    torch.save(network.state_dict(), tmp_path / "VAE-approx" / "model.pt")
    preview = find_approx_nn("sd1", [tmp_path])
    image = preview(torch.randn(1, 4, 8, 8))
    assert image.shape == (1, 3, 16, 16)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    assert find_approx_nn("flux1", [tmp_path]) is None
    assert find_approx_nn("sdxl", [tmp_path]) is None


class TestWebUI:
    @pytest.fixture
    def args(self):
        parser = argparse.ArgumentParser()
        bench_webui.add_arguments(parser)
        return parser.parse_args(["--webui", "http://host:1", "--rounds", "3"])

    def test_rounds_are_interleaved_and_the_options_put_back(self, args, monkeypatch, capsys):
        options = {"live_previews_enable": True, "show_progress_type": "Approx NN", "show_progress_every_n_steps": 10,
                   "taesd_ext_family": "taesdxl"}  # fmt: skip
        original, order = dict(options), []
        seconds = {bench_webui.OFF: 2.0, bench_webui.BUILT: 3.0, bench_webui.OURS: 2.05}

        def call(self, path, data=None, timeout=0):
            if path == "/sdapi/v1/options" and data:
                options.update(data)
            return dict(options)

        def generate(self, args):
            name = next(name for name, change in bench_webui.SETTINGS.items() if change.items() <= options.items())
            order.append(name)
            return seconds[name], bench_webui.Watcher(self, "task", frames=4, bytes=2048)

        monkeypatch.setattr(bench_webui.WebUI, "call", call)
        monkeypatch.setattr(bench_webui.WebUI, "generate", generate)
        report = bench_webui.measure(args)
        assert order == [bench_webui.OFF, bench_webui.BUILT, bench_webui.OURS] * 4
        assert options == original
        assert [row["times_off"] for row in report["rows"]] == [1.0, 1.5, 1.025]
        bench_webui.print_table(report)
        assert "1.025 times" in capsys.readouterr().out

    def test_a_host_without_the_extension_is_refused(self, args, monkeypatch):
        monkeypatch.setattr(bench_webui.WebUI, "call", lambda *_, **__: {"live_previews_enable": True})
        with pytest.raises(TaesdError, match="runs without this extension"):
            bench_webui.measure(args)

    @pytest.mark.parametrize("url", ["127.0.0.1:7860", "file:///etc/hostname", "ftp://127.0.0.1"])
    def test_an_address_of_no_webui(self, args, url):
        args.webui = url
        with pytest.raises(TaesdError, match="no address of a WebUI"):
            bench_webui.measure(args)

    def test_a_host_that_is_not_there(self, args):
        args.webui = "http://127.0.0.1:9"
        with pytest.raises(TaesdError, match="did not answer"):
            bench_webui.measure(args)
