"""Arguments that several commands share. Nonsense is refused by argparse in one line, with exit code 2."""

import argparse


def add_models_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", action="append", default=[], metavar="DIR", help="a folder of weight files (may be repeated)"
    )


def at_least_one(text: str) -> int:
    """ "3" -> 3"""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def port_number(text: str) -> int:
    """ "7860" -> 7860"""
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: use 1 to 65535")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8)"""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a shard: 1/4 to 4/4 are the four parts of four")
    return int(index), int(count)


def picture_size(text: str) -> tuple[int, int]:
    """ "640x480" -> (480, 640), rows first as everywhere here"""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512x512")
    return int(height), int(width)
