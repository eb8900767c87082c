"""Many files: which are found, what each becomes, and the parts that the runs are made of."""

import threading
from pathlib import Path

import pytest
from small_pictures import draw

from taesd_ext import TaesdError
from taesd_ext.commands.batch import prefetched
from taesd_ext.commands.jobs import Job, plan_jobs
from taesd_ext.commands.outputs import write_atomically


def jobs_of(inputs: list[Path | str], output: Path | None, **more) -> list[Job]:
    suffixes = {"source_suffixes": (".png", ".jpg"), "target_suffixes": (".png", ".safetensors")}
    return plan_jobs(list(map(str, inputs)), output, made="latent", default_suffix=".png", **suffixes, **more)


def plan(inputs: list[Path | str], output: Path, **more) -> dict[str, str]:
    jobs = jobs_of(inputs, output, **more)
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
    "brackets in a folder's own name": (["set [1]"], {"e.png": "e"}),
}


@pytest.mark.parametrize("case", PLANNED)
@pytest.mark.parametrize("absolute", [True, False])
def test_where_results_lie(case, absolute, tree, tmp_path, monkeypatch):
    (tmp_path / "set [1]").mkdir()
    for name in ("photo [1].png", "set [1]/e.png"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    inputs, expected = PLANNED[case]
    found = plan([tmp_path / text if absolute else text for text in inputs], tmp_path / "out")
    assert found == {name: f"out/{target}.png" for name, target in expected.items()}


def test_without_an_output_results_lie_beside_their_sources(tree):
    (tree / "a.jpg").write_bytes(b"x")
    jobs = jobs_of([tree], None)
    assert [job.target.relative_to(tree).as_posix() for job in jobs] == [
        "a.jpg.latent.png", "a.png.latent.png", "b.latent.png", "deep/d.latent.png", "deep/er/c.latent.png",
    ]  # fmt: skip
    for job in jobs:
        job.target.write_bytes(b"x")
    assert jobs_of([tree], None) == jobs, "results are no sources"
    assert [job.source for job in jobs_of([tree], tree / "out")] == [job.source for job in jobs]
    with pytest.raises(TaesdError):
        jobs_of([tree / "*.latent.png"], None)
    (named,) = jobs_of([tree / "b.latent.png"], None)
    assert named.target.name == "b.latent.latent.png"


REFUSED = {
    "two files that would become one": (["photos/a.png", "photos/deep/a.png"], "out", "both become"),
    "an input that would be overwritten": (["photos"], "photos", "one of the inputs"),
    "several files to one": (["photos"], "there.png", "need a folder"),
    "an unknown suffix": (["photos/a.png"], "latent.xyz", "suffix is unknown"),
    "a file that is not there": (["nowhere"], "out", "nowhere"),
    "a pattern that fits nothing": (["photos/*.gif"], "out", "Nothing to do"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused(case, tree, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/deep/a.png", "there.png"):
        Path(name).write_bytes(b"x")
    inputs, output, reason = REFUSED[case]
    with pytest.raises(TaesdError, match=reason):
        plan(inputs, Path(output))


def test_an_output_folder_within_the_input_is_not_read_again(tree):
    out = tree / "latents"
    first = plan([tree], out)
    for name in first.values():
        draw(tree / name, 0)
    assert plan([tree], out) == plan([tree / "**" / "*"], out) == first


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_a_partition(tree, tmp_path, count):
    whole = plan([tree], tmp_path / "out")
    parts = [plan([tree], tmp_path / "out", shard=(index, count)) for index in range(1, count + 1)]
    assert sum(map(len, parts)) == len(whole)
    assert {name: target for part in parts for name, target in part.items()} == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_prefetch_is_bounded_ordered_and_in_another_thread():
    loaded: list[int] = []

    def load(item: int) -> int:
        loaded.append(item)
        return threading.get_ident()

    reader = prefetched(range(1000), load, depth=3)
    for count, (item, future) in zip(range(50), reader, strict=False):
        assert item == count
        assert future.result() != threading.get_ident()
        assert len(loaded) <= count + 4
    reader.close()
    assert len(loaded) <= 54


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
