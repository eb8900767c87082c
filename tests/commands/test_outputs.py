"""What every command does with its outputs: it looks before it computes, and replaces only what it is told to."""

from pathlib import Path

import pytest
from small_pictures import draw

from taesd_ext.cli import main
from taesd_ext.commands.outputs import check_outputs
from taesd_ext.errors import TaesdError

COMMANDS = {
    "bench --json {}/x.json": ("bench.measure", "x.json"),
    "compare a.png --codecs taesd -o {}": ("compare.load_from_arguments", "compare.html"),
    "encode a.png -o {}/x.png": ("encode.load_from_arguments", "x.png"),
    "decode a.png -o {}/x.png": ("decode.load_from_arguments", "x.png"),
    "export -o {}": ("export.write_atomically", "taesd_decoder.safetensors"),
    "learn --family taesd -o {}": ("learn.load_codec", "heads_taesd.safetensors"),
    "learn --previewer --family taesd -o {}": ("learn.load_codec", "previewer_sd1.log"),
    "learn --linear --family taesd -o {}": ("learn.load_codec", "linear_taesd.log"),
}
"""Command line -> what computes or writes, and a file that would be written."""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("where", ["out", "afile", "/proc/new"])
def test_an_output_that_cannot_be_written_is_told_first(
    command: str, where: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    work, name = COMMANDS[command]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAESD_MODELS", str(models))
    monkeypatch.setattr(f"taesd_ext.commands.{work}", lambda *_, **__: pytest.fail("it began"))
    draw(tmp_path / "a.png", 1)
    Path("out").mkdir()
    for path in (Path("afile"), Path("out") / name):
        path.write_bytes(b"mine")
    assert main(command.format(where).split()) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert where in said
    assert {path.name for path in tmp_path.rglob("*")} == {"a.png", "afile", "out", name}
    assert Path("afile").read_bytes() == (Path("out") / name).read_bytes() == b"mine"


def test_only_what_is_told_may_go_and_never_an_input(tmp_path: Path) -> None:
    source, link, there = tmp_path / "source", tmp_path / "link", tmp_path / "there"
    for path in (source, there):
        path.write_bytes(b"mine")
    link.symlink_to(source)
    check_outputs([tmp_path / "new" / "file"], overwrite=False)
    check_outputs([there], overwrite=True, sources=[source])
    for target, overwrite in ((there, False), (source, True), (link, True), (tmp_path, True)):
        with pytest.raises(TaesdError):
            check_outputs([target], overwrite=overwrite, sources=[source])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "source", "there"]
