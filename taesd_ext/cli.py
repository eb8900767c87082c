"""The command line: parses, calls commands/, prints errors as one line. Exit code 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from taesd_ext import __version__
from taesd_ext.errors import TaesdError

# Name -> (module, what it does). Each module has add_arguments(parser) and run(args) -> exit code.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("taesd_ext.ui.demo", "open the playground in the browser"),
    "encode": ("taesd_ext.commands.encode", "pictures to latents"),
    "decode": ("taesd_ext.commands.decode", "latents to pictures"),
    "compare": ("taesd_ext.commands.compare", "put pictures through several codecs and compare them"),
    "weights": ("taesd_ext.commands.weights", "list, download and verify weight files"),
    "export": ("taesd_ext.commands.export", "write a codec as safetensors, Keras or ONNX"),
    "calibrate": ("taesd_ext.commands.calibrate", "make the heads for reduced detail"),
    "bench": ("taesd_ext.commands.bench", "measure speed, memory and quality on this machine"),
    "doctor": ("taesd_ext.commands.doctor", "check the installation and say what to do"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = _parser(chosen)
    args = parser.parse_args(arguments)
    if not args.command:
        parser.print_help()
        return 2
    try:
        return args.run(args)
    except TaesdError as error:
        print(f"taesd_ext: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output (head, a pager) has gone: there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("taesd_ext: stopped.", file=sys.stderr)
        return 1


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, where only the chosen command's module is imported: torch and gradio take seconds."""
    parser = argparse.ArgumentParser(prog="python -m taesd_ext", description="Tiny autoencoders (TAESD) for everybody.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
