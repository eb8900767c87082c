"""Numbers on the command line, which argparse refuses in a line of its own when they make no sense."""

from __future__ import annotations

import argparse


def at_least_one(text: str) -> int:
    """ "3" -> 3"""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def port_number(text: str) -> int:
    """ "7860" -> 7860"""
    if not (text.isdecimal() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they are 1 to 65535")
    return int(text)
