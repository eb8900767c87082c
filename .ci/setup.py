"""Make a virtual environment and install this project into it: ``python .ci/setup.py VENV [EXTRAS] [PIN...]``.

EXTRAS is "-" for none or a list such as "test,lint". A PIN ("gradio==3.41.2") replaces the newest release. PyTorch's
CPU build is taken where the package index of this machine offers one, since the CUDA build has several gigabytes.
"""

import re
import subprocess
import sys
import venv
from pathlib import Path

RECENT = 6
"""So many of PyTorch's newest releases are asked for a CPU build before the ordinary one is taken."""


def main(folder: str, extras: str = "-", *pins: str) -> None:
    python = Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    torch = [pin for pin in pins if pin.startswith("torch==")] or [cpu_build(pip) or "torch"]
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
        install(pip, *torch, *[pin for pin in pins if pin.startswith("numpy")])
    project = "." if extras == "-" else f".[{extras}]"
    install(pip, "-e", project, *pins)


def cpu_build(pip: list[str]) -> str | None:
    """The newest CPU build of PyTorch that is to be had here, as a requirement."""
    listed = subprocess.run([*pip, "index", "versions", "torch"], capture_output=True, text=True).stdout
    for version in re.findall(r"\b\d+\.\d+\.\d+\b", listed.partition("Available versions:")[2])[:RECENT]:
        wanted = f"torch=={version}+cpu"
        if not subprocess.run([*pip, "install", "--dry-run", "--no-deps", wanted], capture_output=True).returncode:
            return wanted
    return None


def install(pip: list[str], *wanted: str) -> None:
    print("installing", *wanted, flush=True)
    subprocess.run([*pip, "install", "-q", *wanted], check=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
