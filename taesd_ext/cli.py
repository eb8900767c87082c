"""The command line: parses, calls commands/, prints errors as one line. Exit code 0 done, 1 failed, 2 misused."""

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from taesd_ext import __version__
from taesd_ext.commands.packages import explain_import_error
from taesd_ext.errors import TaesdError, one_line

# Name -> (module, what it does). Each module has add_arguments(parser) and run(args) -> exit code.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("taesd_ext.ui.playground", "open the playground in the browser"),
    "encode": ("taesd_ext.commands.encode", "encode pictures to latents"),
    "decode": ("taesd_ext.commands.decode", "decode latents to pictures"),
    "compare": ("taesd_ext.commands.compare", "compare what several codecs make of the same pictures"),
    "weights": ("taesd_ext.commands.weights", "list, download and verify weight files"),
    "export": ("taesd_ext.commands.export", "write a codec as safetensors, Keras or ONNX"),
    "learn": ("taesd_ext.commands.learn", "train the small networks that draw previews, or measure them"),
    "bench": ("taesd_ext.commands.bench", "measure speed, memory and quality on this machine"),
    "doctor": ("taesd_ext.commands.doctor", "check the installation and suggest fixes"),
}


STOPPED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold what the terminal cannot show
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        print(end="", flush=True)  # now, while an error can still be told
        return code
    except BrokenPipeError:
        # The reader of our output (head, a pager) has gone. Python would fail once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (TaesdError, OSError, UnicodeError) as error:
        print(f"taesd_ext: {_in_words(error)}", file=sys.stderr)
        return 1
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "taesd_ext":
            raise
        print(f"taesd_ext: {explain_import_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("taesd_ext: stopped.", file=sys.stderr)
        return STOPPED


def _run(arguments: list[str]) -> int:
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    parser = _parser(chosen)
    args = parser.parse_args(arguments)
    if not args.command:
        parser.print_help()
        return 2
    return args.run(args)


def _in_words(error: Exception) -> TaesdError:
    if isinstance(error, TaesdError):
        return error
    if isinstance(error, OSError):
        what = f"Cannot use {error.filename}" if error.filename else "Cannot read or write"
        why = error.strerror or one_line(error)
        return TaesdError(what, why, "Check the path, its permissions and the free disk space")
    return TaesdError("Cannot encode or decode a name", one_line(error), "Use names in UTF-8, or set PYTHONUTF8=1")


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, where only the chosen command's module is imported: torch and gradio take seconds."""
    parser = argparse.ArgumentParser(prog="python -m taesd_ext", description="Live previews and tiny VAEs (TAESD).")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module_name, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
