"""Many files: which are found, what each becomes, and the parts that the runs are made of."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

import pytest
from small_pictures import draw

from taesd_ext import TaesdError
from taesd_ext.commands.argument_types import shard
from taesd_ext.commands.batch import prefetched
from taesd_ext.commands.jobs import find_files, plan_jobs
from taesd_ext.commands.outputs import write_atomically

SUFFIXES = (".png", ".jpg")


def plan(inputs: list[Path | str], output: Path, **more) -> dict[str, str]:
    jobs = plan_jobs(
        [str(item) for item in inputs], output, made="latent",
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


WALKED = {"a.png": "a", "b.jpg": "b", "c.png": "deep/er/c", "d.PNG": "deep/d"}
PLANNED = {
    "a folder is walked": (["photos"], WALKED),
    "a pattern keeps what follows its fixed part": (["photos/**/*"], WALKED),
    "a pattern in a folder below": (["photos/deep/*"], {"d.PNG": "d"}),
    "a pattern of plain names": (["photos/*.png"], {"a.png": "a"}),
    "the same file three times": (["photos", "photos/a.png", "photos/*.png"], WALKED),
    "brackets in a file's own name": (["photo [1].png"], {"photo [1].png": "photo [1]"}),
}


@pytest.mark.parametrize("case", PLANNED)
@pytest.mark.parametrize("absolute", [True, False])
def test_where_results_lie(case, absolute, tree, tmp_path, monkeypatch):
    (tmp_path / "photo [1].png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    inputs, expected = PLANNED[case]
    found = plan([tmp_path / text if absolute else text for text in inputs], tmp_path / "out")
    assert found == {name: f"out/{target}.safetensors" for name, target in expected.items()}


def test_one_file_to_one_file(tree, tmp_path):
    assert plan([tree / "a.png"], tmp_path / "latent.png") == {"a.png": "latent.png"}
    with pytest.raises(TaesdError, match="suffix is unknown"):
        plan([tree / "a.png"], tmp_path / "latent.xyz")


def test_without_an_output_results_lie_beside_their_sources(tree):
    (tree / "a.jpg").write_bytes(b"x")
    suffixes = {"source_suffixes": SUFFIXES, "target_suffixes": (".png",), "default_suffix": ".png"}
    jobs = plan_jobs([str(tree)], None, made="latent", **suffixes)
    assert [job.target.relative_to(tree).as_posix() for job in jobs] == [
        "a.jpg.latent.png", "a.png.latent.png", "b.latent.png", "deep/d.latent.png", "deep/er/c.latent.png",
    ]  # fmt: skip
    for job in jobs:
        job.target.write_bytes(b"x")
    assert plan_jobs([str(tree)], None, made="latent", **suffixes) == jobs, "results are no sources"
    (named,) = plan_jobs([str(tree / "b.latent.png")], None, made="latent", **suffixes)
    assert named.target.name == "b.latent.latent.png"


def test_files_that_differ_by_suffix_keep_it(tree, tmp_path):
    (tree / "a.jpg").write_bytes(b"x")
    planned = plan([tree], tmp_path / "out")
    assert planned["a.png"] == "out/a.png.safetensors"
    assert planned["a.jpg"] == "out/a.jpg.safetensors"
    assert planned["b.jpg"] == "out/b.safetensors"


def test_two_files_never_become_one(tree, tmp_path):
    (tree / "deep" / "a.png").write_bytes(b"x")
    with pytest.raises(TaesdError, match="both become"):
        plan([tree / "a.png", tree / "deep" / "a.png"], tmp_path / "out")


def test_an_input_is_never_overwritten(tree):
    with pytest.raises(TaesdError, match="overwritten"):
        plan_jobs(
            [str(tree)], tree, made="latent",
            source_suffixes=SUFFIXES, target_suffixes=(".png",), default_suffix=".png",
        )  # fmt: skip


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
    assert shard("2/8") == (2, 8)
    for bad in ("0/4", "5/4", "1", "a/b", "1/0", "-1/4", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            shard(bad)


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
