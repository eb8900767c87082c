"""A new model kind is one row of latent_formats.py: shown on a copy of the package to which one is added."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from invented_model import ROW

TESTS = Path(__file__).resolve().parent
TABLE = "LATENT_FORMATS: tuple[LatentFormat, ...] = ("


def test_one_row_is_all_that_a_new_model_takes(tmp_path: Path) -> None:
    for name in ("taesd_ext", "scripts", "tests/fake_webui"):
        shutil.copytree(TESTS.parent / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "host").mkdir()
    shutil.copy(TESTS / "host" / "conftest.py", tmp_path / "tests" / "host")
    shutil.copy(TESTS / "invented_model.py", tmp_path / "tests" / "host" / "test_invented.py")
    table = tmp_path / "taesd_ext" / "latent_formats.py"
    source = table.read_text(encoding="utf-8")
    assert source.count(TABLE) == 1
    table.write_text(source.replace(TABLE, TABLE + ROW.rstrip()), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/host/test_invented.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
