"""The packages that everything here is made with. Imports none of them: it is read where they are missing."""

import importlib.metadata
import importlib.util
import re
import sys

from taesd_ext.errors import TaesdError, one_line

NEEDED = {
    "torch": "torch",
    "gradio": "gradio",
    "safetensors": "safetensors",
    "numpy": "numpy",
    "PIL": "pillow",
    "tqdm": "tqdm",
    "filelock": "filelock",
    "huggingface_hub": "huggingface_hub",
    "httpx": "httpx",
}
"""Module -> what pip calls it."""

_OLDEST = {"torch": (2, 1), "gradio": (3, 41, 2), "numpy": (1, 23), "pillow": (9, 5), "safetensors": (0, 4)}
_OPTIONAL = ("h5py", "onnx", "certifi")


def explain_import_error(error: ImportError) -> TaesdError:
    """Which packages this Python lacks, all at once, and which Python has them."""
    names = [pip for module, pip in NEEDED.items() if importlib.util.find_spec(module) is None]
    cure = f"`make demo` sets everything up; use .venv/bin/python then. Or: {sys.executable} -m pip"
    if names:
        return TaesdError(f"{sys.executable} lacks {', '.join(names)}", "", f"{cure} install {' '.join(names)}")
    if isinstance(error, ModuleNotFoundError):
        return TaesdError(f"{sys.executable} lacks {error.name}", "", f"{cure} install {error.name}")
    package = (error.name or "a package").partition(".")[0]
    return TaesdError(f"{package} cannot be imported", one_line(error), f"{cure} install --force-reinstall {package}")


def installed_versions() -> str:
    """ "torch 2.1.0, gradio 4.40.0, ..." """
    found = {name: _version(name) for name in (*NEEDED.values(), *_OPTIONAL)}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def package_problems() -> list[str]:
    """What is missing or too old, each with its cure."""
    problems = []
    for name in NEEDED.values():
        version = _version(name)
        if not version:
            problems.append(f"{name} is missing: pip install {name}")
        elif name in _OLDEST and tuple(map(int, re.findall(r"\d+", version.split("+")[0])[:3])) < _OLDEST[name]:
            oldest = ".".join(map(str, _OLDEST[name]))
            problems.append(f"{name} {version} is older than {oldest}: update it, or the WebUI")
    return problems


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
