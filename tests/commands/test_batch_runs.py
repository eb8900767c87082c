"""Runs over many files: resumed after a kill, split, spread, and alike whichever way they ran."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from small_pictures import decode, digests, draw, encode

from taesd_ext import cli
from taesd_ext.codec.latent_file import latent_bytes
from taesd_ext.codec.latent_note import LatentNote
from taesd_ext.commands import batch, progress
from taesd_ext.errors import TaesdError


def test_there_and_back_on_the_command_line(tmp_path, models, capsys):
    for index, size in enumerate([(16, 16), (20, 33), (9, 8)]):
        draw(tmp_path / "in" / "sub" / f"{index}.png", index, size)
    for form in ("png", "safetensors"):
        latents, back = tmp_path / f"latents-{form}", tmp_path / f"back-{form}"
        assert encode(tmp_path / "in", latents, models, "--format", form) == 0
        assert decode(latents, back, models, "--format", "webp") == 0
        assert sorted(digests(back)) == ["sub/0.webp", "sub/1.webp", "sub/2.webp"]
        with Image.open(back / "sub" / "1.webp") as picture:
            assert picture.size == (33, 20)
    assert "3 decoded." in capsys.readouterr().err


def test_results_lie_beside_their_sources_without_an_output(tmp_path, models):
    draw(tmp_path / "a.png", 1)
    for command, name in (("encode", "a.png"), ("decode", "a.latent.png")):
        assert cli.main([command, str(tmp_path / name), "--models", str(models)]) == 0
    with Image.open(tmp_path / "a.latent.decoded.png") as picture:
        assert picture.size == (16, 16)


def test_the_embedded_codec_is_named_where_it_stands_in(tmp_path, models, caplog):
    draw(tmp_path / "a.png", 1)
    (tmp_path / "none").mkdir()
    for folder in (models, tmp_path / "none"):
        assert encode(tmp_path / "a.png", tmp_path / f"{folder.name}.png", folder) == 0
        assert ("embedded" in caplog.text) == (folder.name == "none")


def test_a_latent_of_another_model_is_not_decoded(tmp_path, models, capsys):
    draw(tmp_path / "a.png", 1)
    latent = tmp_path / "latent.png"
    assert encode(tmp_path / "a.png", latent, models) == 0
    assert decode(latent, tmp_path / "b.png", models, "--family", "taesd3") == 1
    assert "sd1 latents" in capsys.readouterr().err
    assert decode(latent, tmp_path / "b.png", models) == 0


def test_a_latent_file_cannot_name_a_path(tmp_path, models, capsys):
    note = LatentNote(str(models / "taesd_decoder.safetensors"), "sd1", 4, 8, 8)
    (tmp_path / "latent.png").write_bytes(latent_bytes(".png", torch.zeros(1, 4, 1, 1), note))
    assert decode(tmp_path / "latent.png", tmp_path / "b.png", models) == 1
    assert "unknown codec" in capsys.readouterr().err


UNFIT = {
    "no weights at all": (["--models", "empty"], "No weights for taesana"),
    "a decoder alone": (["--family", "{models}/taef1_decoder.safetensors"], "no encoder"),
    "no distribution to draw from": (["--family", "taesd", "--models", "{models}", "--seed", "1"], "cannot sample"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_unfit_codec_stops_before_the_first_picture(case, tmp_path, models, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for seed in (1, 2):
        draw(tmp_path / "in" / f"{seed}.png", seed)
    options, reason = UNFIT[case]
    options = [option.format(models=models) for option in options]
    assert cli.main(["encode", "in", "-o", "out", "--family", "taesana", *options]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.splitlines()) == 1
    assert not Path("out").exists()


PICTURES = 60
BROKEN = range(5, 35, 10)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Small pictures in ten folders, three of them in one folder and broken in different ways."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(PICTURES):
        path = folder / f"{index % 10}" / f"{index:04}.png"
        draw(path, index)
        if index in BROKEN:
            data = path.read_bytes()
            path.write_bytes((b"", data[: len(data) // 2], b"not a picture at all")[index % 3])
    return folder


@pytest.fixture(scope="module")
def in_one_go(many, tmp_path_factory, models) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    assert encode(many, out, models) == 1
    return digests(out)


def test_broken_pictures_are_survived_and_reported(many, in_one_go, models, tmp_path, capsys):
    assert len(in_one_go) == PICTURES - len(BROKEN)
    assert encode(many / "5", tmp_path, models) == 1
    said = capsys.readouterr().err
    assert f"{PICTURES // 10 - len(BROKEN)} encoded, {len(BROKEN)} failed." in said
    for index in BROKEN:
        assert f"{index:04}.png is not a readable picture" in said


KILLED_HALF_WAY = f"""
import itertools, os, signal, sys
from taesd_ext.cli import main

written = itertools.count(1)


def watch(event, _):
    if event == "os.rename" and next(written) > {PICTURES // 2}:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


sys.addaudithook(watch)
main(sys.argv[1:])
"""


def test_killed_and_resumed(many, in_one_go, models, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED_HALF_WAY, "encode", str(many), "-o", str(out), "--models", str(models)]
    root = Path(batch.__file__).parents[2]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    subprocess.run(command, env=environment, stderr=subprocess.DEVNULL)
    there = {name: (out / name).stat().st_mtime_ns for name in digests(out) if not name.endswith(".part")}
    assert 0 < len(there) < len(in_one_go), "it was to be killed half-way"

    assert encode(many, out, models) == 1
    assert f"{len(in_one_go) - len(there)} encoded, {len(there)} already there" in capsys.readouterr().err
    assert digests(out) == in_one_go
    assert {name: (out / name).stat().st_mtime_ns for name in there} == there, "none was made twice"


def test_shards_together_give_the_same_bytes(many, in_one_go, models, tmp_path):
    for shard in ("1/2", "2/2"):
        assert encode(many, tmp_path, models, "--shard", shard) == 1
    assert digests(tmp_path) == in_one_go


def test_overwrite_makes_them_again(tmp_path, models, capsys):
    draw(tmp_path / "in" / "a.png", 1)
    draw(tmp_path / "in" / "b.png", 2)
    again = "0 encoded, 2 already there (--overwrite redoes them)."
    for more, said in ([], "2 encoded."), ([], again), (["--overwrite"], "2 encoded."):
        assert encode(tmp_path / "in", tmp_path / "out", models, *more) == 0
        assert said in capsys.readouterr().err
    (tmp_path / "out" / "a.png").write_bytes(b"")
    assert encode(tmp_path / "in", tmp_path / "out", models) == 0
    assert "1 encoded, 1 already there (" in capsys.readouterr().err


@pytest.mark.slow
def test_ray_gives_the_same_bytes(many, in_one_go, models, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs the extra: ray")
    assert encode(many / "5", tmp_path / "5", models, "--engine", "ray", "--workers", "2") == 1
    assert f"{PICTURES // 10 - len(BROKEN)} encoded, {len(BROKEN)} failed." in capsys.readouterr().err
    assert digests(tmp_path) == {name: value for name, value in in_one_go.items() if name.startswith("5/")}


def test_a_worker_without_weights_says_so_in_one_line(tmp_path, models, capsys, monkeypatch):
    """Ray gives what its workers raise while they are made as an error of its own, with a traceback."""

    class Remote:
        def __init__(self, kind, *given):
            try:
                self._made = kind(*given)
            except TaesdError as error:
                raise RuntimeError("Traceback") from error

        def __getattr__(self, name):
            return SimpleNamespace(remote=getattr(self._made, name))

    def remote(**_options):
        return lambda kind: SimpleNamespace(remote=lambda *given: Remote(kind, *given))

    ray = SimpleNamespace(is_initialized=lambda: True, remote=remote, get=list)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util", SimpleNamespace(ActorPool=None))
    draw(tmp_path / "a.png", 1)
    arguments = ("--engine", "ray", "--family", "sd-vae-ft-mse")
    assert encode(tmp_path / "a.png", tmp_path / "l.png", models, *arguments) == 1
    assert "No weights for sd-vae-ft-mse" in capsys.readouterr().err


def test_a_single_long_step_has_a_bar(monkeypatch):
    terminal, until = io.StringIO(), time.monotonic() + 30
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "DELAY", 0.01)
    for _ in progress.progress(["the only file"], 1, "encode"):
        while "encode" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert "0/1" in terminal.getvalue()


def test_without_ray_it_says_what_to_install(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    draw(tmp_path / "a.png", 1)
    assert encode(tmp_path / "a.png", tmp_path / "l.png", models, "--engine", "ray") == 1
    assert "pip install ray" in capsys.readouterr().err
