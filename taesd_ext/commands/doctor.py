"""``doctor``: the text that a user pastes into a report, and what to do about what is wrong.

It names versions, the host, families and their files, the last errors and timings. It holds no prompt, and no place of
the user's own: folders of weights are numbered, and home folders are written as ~. Where packages are missing, it tells
what it can without them.
"""

import argparse
import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taesd_ext import __version__
from taesd_ext.commands.arguments import add_models_argument
from taesd_ext.commands.packages import explain_import_error, installed_versions, package_problems
from taesd_ext.commands.private_text import without_private
from taesd_ext.commands.switch_on import METHOD, TAESD, find_config, read_config, switch_on
from taesd_ext.errors import TaesdError, log, one_line


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    text: str
    """For a report that anybody may read."""
    problems: tuple[str, ...]
    """Those in the text, each with its cure and the places that it is about: for the person who sits there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_models_argument(parser)
    parser.add_argument(
        "--fix", nargs="?", const="", metavar="WEBUI",
        help="switch a WebUI's live previews to TAESD: its folder or config.json (default: the one this is in)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    if args.fix is not None:
        return _fix(Path(args.fix) if args.fix else None)
    # What is logged while it loads names places, and people copy the whole terminal; damaged files are found anyway.
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        diagnosis = diagnose(args.models, advice=_switch_on_advice())
    finally:
        log.setLevel(level)
    print(diagnosis.text)
    return 1 if diagnosis.problems else 0


def _fix(webui: Path | None) -> int:
    config = find_config(webui)
    if lines := switch_on(config):
        print("\n".join([f"{config}:", *(f"  {line}" for line in lines), "Restart the WebUI if it is running."]))
    else:
        print(f"{config}: nothing to change, live previews already use TAESD.")
    return 0


def _switch_on_advice() -> list[str]:
    """What to do where this lies in a WebUI whose previews are by another method."""
    try:
        method = read_config(find_config()).get(METHOD, "another method")
    except TaesdError:
        return []
    if method == TAESD:
        return []
    return [f"the WebUI's live previews use {method}: `python -m taesd_ext doctor --fix` switches to TAESD"]


def diagnose(
    models: Iterable[Path | str] = (),
    *,
    host: str = "none",
    errors: Sequence[str] = (),
    timings: Sequence[str] = (),
    advice: Sequence[str] = (),
) -> Diagnosis:
    """Look at the installation. ``host``, ``errors``, ``timings`` and ``advice`` are what only the caller knows."""
    problems, labels = package_problems(), {}
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    versions = [
        f"taesd_ext {__version__}, {system}",
        installed_versions() or "none of the required packages",
        f"devices: {', '.join(_devices())}",
    ]
    sections = {"Versions": versions, "Host": [host]}
    try:
        from taesd_ext.commands.doctor_files import Installation
    except ImportError as error:
        problems = problems or [str(explain_import_error(error))]
        advice = [*advice, "install the packages and run this again to check the weight files too"]
    else:
        installation = Installation(models)
        problems += installation.problems()
        advice = [*advice, *installation.advice()]
        sections |= installation.sections()
        labels = installation.labels
    sections |= {
        "Last errors": list(errors) or ["none"],
        "Timings": list(timings) or ["none"],
        "To do": [*problems, *advice] or ["nothing, all is well"],
    }
    lines = [line for title, body in sections.items() for line in (f"{title}:", *(f"  {each}" for each in body))]
    text = without_private("\n".join(lines), labels)
    return Diagnosis(text, tuple(without_private(problem) for problem in problems))


def _devices() -> list[str]:
    try:
        import torch

        found = [f"cpu with {torch.get_num_threads()} threads"]
        if torch.cuda.is_available():
            found += [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            found.append("mps")
    except Exception as error:
        return [one_line(error)]
    return found
