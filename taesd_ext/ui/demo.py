"""``demo``: the playground from the command line."""

import argparse
from pathlib import Path

from taesd_ext.commands.arguments import port_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=Path, metavar="DIR", help="folder with weight files")
    parser.add_argument("--port", type=port_number, help="on 127.0.0.1 (default: the first free one from 7860)")
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser window")


def run(args: argparse.Namespace) -> int:
    from taesd_ext.ui.playground import launch

    launch(port=args.port, models_dir=args.models, open_browser=not args.no_browser)
    return 0
