"""Many files: found with their names kept, resumed after a kill, split, spread, and alike whichever way they ran."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from taesd_ext import TaesdError, cli
from taesd_ext.commands import batch
from taesd_ext.commands.batch import find_files, parse_shard, plan_jobs, prefetched, write_atomically
from taesd_ext.models import tiny

SUFFIXES = (".png", ".jpg")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Seeded weights of a taesd encoder and decoder."""
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        safetensors.torch.save_file(tiny.Encoder(4).state_dict(), folder / "taesd_encoder.safetensors")
        safetensors.torch.save_file(tiny.Decoder(4).state_dict(), folder / "taesd_decoder.safetensors")
    return folder


def draw(path: Path, seed: int, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def digests(folder: Path) -> dict[str, str]:
    """Name below the folder -> checksum, of every file, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plan(inputs: list[Path | str], output: Path, **more) -> dict[str, str]:
    jobs = plan_jobs(
        [str(item) for item in inputs], output,
        source_suffixes=SUFFIXES, target_suffixes=(".png", ".safetensors"), default_suffix=".safetensors", **more,
    )  # fmt: skip
    return {job.source.name: job.target.relative_to(output.parent).as_posix() for job in jobs}


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("a.png", "b.jpg", "deep/er/c.png", "deep/d.PNG", "notes.txt", ".hidden.png", ".git/e.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


def test_a_folder_is_walked_and_names_are_kept(tree, tmp_path):
    assert plan([tree], tmp_path / "out") == {
        "a.png": "out/a.safetensors",
        "b.jpg": "out/b.safetensors",
        "c.png": "out/deep/er/c.safetensors",
        "d.PNG": "out/deep/d.safetensors",
    }


def test_a_pattern_keeps_what_follows_its_fixed_part(tree, tmp_path):
    assert plan([tree / "**" / "*.png"], tmp_path / "out") == {
        "a.png": "out/a.safetensors",
        "c.png": "out/deep/er/c.safetensors",
    } | ({} if os.name != "nt" else {"d.PNG": "out/deep/d.safetensors"})
    assert plan([tree / "deep" / "*"], tmp_path / "out") == {"d.PNG": "out/d.safetensors"}


def test_a_relative_pattern(tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plan(["photos/*.png"], tmp_path / "out") == {"a.png": "out/a.safetensors"}
    monkeypatch.chdir(tree)
    assert plan(["*.png"], tmp_path / "out") == {"a.png": "out/a.safetensors"}


def test_a_file_whose_name_has_brackets_is_no_pattern(tmp_path):
    odd = tmp_path / "photo [1].png"
    odd.write_bytes(b"x")
    assert plan([odd], tmp_path / "out") == {"photo [1].png": "out/photo [1].safetensors"}


def test_one_file_to_one_file(tree, tmp_path):
    assert plan([tree / "a.png"], tmp_path / "latent.png") == {"a.png": "latent.png"}
    with pytest.raises(TaesdError, match="suffix is unknown"):
        plan([tree / "a.png"], tmp_path / "latent.xyz")


def test_files_that_differ_by_suffix_keep_it(tree, tmp_path):
    (tree / "a.jpg").write_bytes(b"x")
    planned = plan([tree], tmp_path / "out")
    assert planned["a.png"] == "out/a.png.safetensors"
    assert planned["a.jpg"] == "out/a.jpg.safetensors"
    assert planned["b.jpg"] == "out/b.safetensors"


def test_the_same_file_twice_is_one_job(tree, tmp_path):
    assert len(plan([tree, tree / "a.png", tree / "*.png"], tmp_path / "out")) == 4


def test_two_files_never_become_one(tree, tmp_path):
    (tree / "deep" / "a.png").write_bytes(b"x")
    with pytest.raises(TaesdError, match="both become"):
        plan([tree / "a.png", tree / "deep" / "a.png"], tmp_path / "out")


def test_an_input_is_never_overwritten(tree):
    with pytest.raises(TaesdError, match="overwritten"):
        plan_jobs([str(tree)], tree, source_suffixes=SUFFIXES, target_suffixes=(".png",), default_suffix=".png")


def test_an_output_folder_within_the_input_is_not_read_again(tree):
    out = tree / "latents"
    first = plan([tree], out)
    pattern = plan([tree / "**" / "*"], out)
    for name in first.values():
        draw(tree / name.replace(".safetensors", ".png"), 0)
    assert plan([tree], out) == first
    assert plan([tree / "**" / "*"], out) == pattern == first


@pytest.mark.parametrize("missing", ["nowhere", "nowhere/*.png"])
def test_nothing_to_do_is_said(missing, tmp_path):
    with pytest.raises(TaesdError, match="nowhere"):
        list(find_files([str(tmp_path / missing)], SUFFIXES))


def test_several_files_need_a_folder(tree, tmp_path):
    (tmp_path / "out.png").write_bytes(b"x")
    with pytest.raises(TaesdError, match="need a folder"):
        plan([tree], tmp_path / "out.png")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition(tree, tmp_path, count):
    whole = plan([tree], tmp_path / "out")
    parts = [plan([tree], tmp_path / "out", shard=(index, count)) for index in range(1, count + 1)]
    assert sum(map(len, parts)) == len(whole)
    assert {name: target for part in parts for name, target in part.items()} == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shards_are_parsed():
    assert parse_shard("2/8") == (2, 8)
    for bad in ("0/4", "5/4", "1", "a/b", "1/0", "-1/4", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            parse_shard(bad)


def test_prefetch_is_bounded_ordered_and_in_another_thread():
    loaded: list[int] = []
    threads: set[int] = set()

    def load(item: int) -> int:
        loaded.append(item)
        threads.add(threading.get_ident())
        return item * 10

    for count, (item, future) in enumerate(prefetched(range(50), load, depth=3)):
        assert (item, future.result()) == (count, count * 10)
        assert len(loaded) <= count + 4
    assert threading.get_ident() not in threads
    assert len(threads) == 1


def test_prefetch_stops_with_its_reader():
    loaded: list[int] = []
    reader = prefetched(range(1000), loaded.append, depth=3)
    next(reader)
    reader.close()
    assert len(loaded) <= 4


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "x" / "a.png"
    write_atomically(target, b"old")

    def run_full(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", run_full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, b"new, longer")
    assert target.read_bytes() == b"old"


def test_progress_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(batch.progress(range(30), 30, "encode")) == list(range(30))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "encode 3/30"
    assert lines[-1] == "encode 30/30"
    assert len(lines) == 10


def encode(inputs: Path, output: Path, models: Path, *more: str) -> int:
    return cli.main(["encode", str(inputs), "-o", str(output), "--models", str(models), *more])


def test_there_and_back_on_the_command_line(tmp_path, models, capsys):
    for index, size in enumerate([(16, 16), (20, 33), (9, 8)]):
        draw(tmp_path / "in" / "sub" / f"{index}.png", index, size)
    for form in ("png", "safetensors"):
        latents, back = tmp_path / f"latents-{form}", tmp_path / f"back-{form}"
        assert encode(tmp_path / "in", latents, models, "--format", form) == 0
        arguments = ["decode", str(latents), "-o", str(back), "--models", str(models), "--format", "webp"]
        assert cli.main(arguments) == 0
        assert sorted(digests(back)) == ["sub/0.webp", "sub/1.webp", "sub/2.webp"]
        with Image.open(back / "sub" / "1.webp") as picture:
            assert picture.size == (33, 20)
    assert "3 decoded." in capsys.readouterr().err


def test_a_latent_of_another_model_is_not_decoded(tmp_path, models, capsys):
    draw(tmp_path / "a.png", 1)
    assert encode(tmp_path / "a.png", tmp_path / "latent.png", models) == 0
    safetensors.torch.save_file(tiny.Decoder(16).state_dict(), models / "taesd3_decoder.safetensors")
    arguments = ["decode", str(tmp_path / "latent.png"), "-o", str(tmp_path / "b.png"), "--models", str(models)]
    assert cli.main([*arguments, "--family", "taesd3"]) == 1
    assert "sd1 latents" in capsys.readouterr().err
    assert cli.main(arguments) == 0


def test_a_latent_file_cannot_name_a_path(tmp_path, models, capsys):
    from taesd_ext.codec.latent_file import latent_bytes
    from taesd_ext.codec.latent_image import LatentNote

    note = LatentNote(str(models / "taesd_decoder.safetensors"), "sd1", 4, 8, 8)
    (tmp_path / "latent.png").write_bytes(latent_bytes(".png", torch.zeros(1, 4, 1, 1), note))
    arguments = ["decode", str(tmp_path / "latent.png"), "-o", str(tmp_path / "b.png"), "--models", str(models)]
    assert cli.main(arguments) == 1
    assert "unknown codec" in capsys.readouterr().err


def test_missing_weights_stop_before_the_first_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TAESD_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "in" / "a.png", 1)
    draw(tmp_path / "in" / "b.png", 2)
    (tmp_path / "empty").mkdir()
    assert encode(tmp_path / "in", tmp_path / "out", tmp_path / "empty") == 1
    assert "No weights for taesd" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_decoder_alone_cannot_encode(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    draw(tmp_path / "a.png", 1)
    arguments = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "l.png")]
    assert cli.main([*arguments, "--family", str(models / "taesd_decoder.safetensors")]) == 1
    assert "no encoder" in capsys.readouterr().err


def test_a_tiny_autoencoder_draws_no_latents(tmp_path, models, capsys):
    draw(tmp_path / "in" / "a.png", 1)
    assert encode(tmp_path / "in", tmp_path / "out", models, "--seed", "1") == 1
    assert "taesd cannot sample: its latents are no distribution. Leave --seed out." in capsys.readouterr().err


PICTURES = 1000
BROKEN = range(5, 105, 10)


@pytest.fixture(scope="module")
def thousand(tmp_path_factory) -> Path:
    """A thousand small pictures in ten folders, ten of them broken in several ways."""
    folder = tmp_path_factory.mktemp("thousand")
    ways = [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"not a picture at all"]
    for index in range(PICTURES):
        path = folder / f"{index % 10}" / f"{index:04}.png"
        draw(path, index)
        if index in BROKEN:
            path.write_bytes(ways[index % len(ways)](path.read_bytes()))
    return folder


@pytest.fixture(scope="module")
def in_one_go(thousand, tmp_path_factory, models) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole")
    assert encode(thousand, out, models) == 1
    return digests(out)


def test_broken_pictures_are_survived_and_reported(thousand, in_one_go, models, tmp_path, capsys):
    assert len(in_one_go) == PICTURES - len(BROKEN)
    out = tmp_path / "out"
    assert encode(thousand / "5", out, models) == 1
    said = capsys.readouterr().err
    assert "90 encoded, 10 failed." in said
    for index in BROKEN:
        assert f"{index:04}.png is no readable picture" in said


def test_killed_and_resumed(thousand, in_one_go, models, tmp_path, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "taesd_ext", "encode", str(thousand), "-o", str(out), "--models", str(models)]
    root = Path(batch.__file__).parents[2]
    running = subprocess.Popen(
        command, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    try:
        patience = time.monotonic() + 300
        while len(list(out.rglob("[0-9]*.png"))) < PICTURES // 2 and running.poll() is None:
            assert time.monotonic() < patience
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        running.wait()
    there = {name: (out / name).stat().st_mtime_ns for name in digests(out) if not name.endswith(".part")}
    assert PICTURES // 2 <= len(there) < len(in_one_go), "it was to be killed half-way"

    assert encode(thousand, out, models) == 1
    assert f"{len(in_one_go) - len(there)} encoded, {len(there)} already there, 10 failed." in capsys.readouterr().err
    assert digests(out) == in_one_go
    assert {name: (out / name).stat().st_mtime_ns for name in there} == there, "none was made twice"


def test_shards_together_give_the_same_bytes(thousand, in_one_go, models, tmp_path):
    for shard in ("1/2", "2/2"):
        assert encode(thousand, tmp_path, models, "--shard", shard) == 1
    assert digests(tmp_path) == in_one_go


def test_the_order_and_company_of_a_picture_change_nothing(thousand, in_one_go, models, tmp_path):
    for index in (17, 16, 3):
        name = f"{index % 10}/{index:04}.png"
        assert encode(thousand / name, tmp_path / name, models) == 0
        assert digests(tmp_path)[name] == in_one_go[name]


def test_overwrite_makes_them_again(tmp_path, models, capsys):
    draw(tmp_path / "in" / "a.png", 1)
    draw(tmp_path / "in" / "b.png", 2)
    for more, said in ([], "2 encoded."), ([], "0 encoded, 2 already there."), (["--overwrite"], "2 encoded."):
        assert encode(tmp_path / "in", tmp_path / "out", models, *more) == 0
        assert said in capsys.readouterr().err
    (tmp_path / "out" / "a.png").write_bytes(b"")
    assert encode(tmp_path / "in", tmp_path / "out", models) == 0
    assert "1 encoded, 1 already there." in capsys.readouterr().err


@pytest.mark.slow
def test_ray_gives_the_same_bytes(thousand, in_one_go, models, tmp_path, capsys):
    pytest.importorskip("ray.data", reason="needs the extra: ray")
    assert encode(thousand / "5", tmp_path / "5", models, "--engine", "ray", "--workers", "2") == 1
    assert "90 encoded, 10 failed." in capsys.readouterr().err
    assert digests(tmp_path) == {name: value for name, value in in_one_go.items() if name.startswith("5/")}


def test_without_ray_it_says_what_to_install(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    draw(tmp_path / "a.png", 1)
    assert encode(tmp_path / "a.png", tmp_path / "l.png", models, "--engine", "ray") == 1
    assert "pip install 'ray[data]'" in capsys.readouterr().err


