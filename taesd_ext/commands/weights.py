"""``weights``: which weight files there are and what they are, get the official ones, check their checksums."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from taesd_ext.codec.embedded import embedded_families
from taesd_ext.commands.arguments import add_models_argument
from taesd_ext.commands.measuring import table
from taesd_ext.commands.progress import download_progress, progress, waiting
from taesd_ext.errors import TaesdError
from taesd_ext.latent_formats import FAMILIES
from taesd_ext.models.layers import BORDERS
from taesd_ext.weights.borders import remember_borders
from taesd_ext.weights.catalog import CATALOG, downloadable
from taesd_ext.weights.download import download_family
from taesd_ext.weights.fetch import Transfer
from taesd_ext.weights.folders import cache_folder, given_folders, search_folders
from taesd_ext.weights.identify import UNREADABLE, UNVERIFIED, Identity, identify
from taesd_ext.weights.installed import installed
from taesd_ext.weights.store import list_weights
from taesd_ext.weights.tiny_file import PARTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list", help="list the weight files and what is missing; exit code 1 if one is unreadable"
    )
    verify = actions.add_parser("verify", help="check every file's checksum; exit code 1 if one is unreadable")
    download = actions.add_parser("download", help="download official files and verify their checksums")
    download.add_argument(
        "family", metavar="FAMILY", choices=[*downloadable(), "all"],
        help=f"{', '.join(downloadable())}; all: {', '.join(FAMILIES)}",
    )  # fmt: skip
    download.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to put them (the user's cache)")
    download.add_argument("--offline", action="store_true", help="only list what is already there")
    borders = actions.add_parser("borders", help="set how a VAE pads the borders of pictures")
    borders.add_argument("file", type=Path, metavar="FILE", help="the VAE's file, recognized later by its checksum")
    borders.add_argument("borders", choices=BORDERS)
    for action in (listing, verify):
        add_models_argument(action)
        action.add_argument("--json", action="store_true", help="machine-readable")


def run(args: argparse.Namespace) -> int:
    return {"download": _download, "borders": _set_borders}.get(args.action, _show)(args)


def _show(args: argparse.Namespace) -> int:
    verify = args.action == "verify"
    folders = search_folders(given_folders(args.models))
    files = list_weights(
        folders, always_hash=verify, strays=verify, progress=lambda paths: progress(paths, len(paths), args.action)
    )
    if args.json:
        print(json.dumps(_as_json(folders, files), indent=2))
    else:
        print(_table(files) if verify else _as_text(folders, files))
    return 1 if any(identity.state == UNREADABLE for identity in files) else 0


def _download(args: argparse.Namespace) -> int:
    folder = args.output or cache_folder()
    families = FAMILIES if args.family == "all" else (args.family,)
    failed = 0
    for family in families:
        try:
            with download_progress(family) as show:
                paths = download_family(family, folder, Transfer(show), offline=args.offline)
            for path in paths:
                print(f"{path}  {identify(path)}")
        except TaesdError as error:
            failed += 1
            print(f"taesd_ext: {error}", file=sys.stderr)
    return 1 if failed else 0


def _set_borders(args: argparse.Namespace) -> int:
    with waiting("checksum"):
        remember_borders(args.file, args.borders)
    print(f"{args.file} uses {args.borders} borders from now on.")
    return 0


def _as_json(folders: list[Path], files: list[Identity]) -> dict[str, object]:
    used = installed(folders)
    return {
        "folders": [str(folder) for folder in folders],
        "files": [_file_as_json(identity) for identity in files],
        "families": {
            family: {part: str(path) if (path := used.get(family, {}).get(part)) else None for part in PARTS}
            for family in FAMILIES
        },
        "embedded": list(embedded_families()),
    }


def _file_as_json(identity: Identity) -> dict[str, object]:
    official = identity.official
    return {
        "path": str(identity.path),
        "families": list(identity.families),
        "guess": identity.is_guess,
        "parts": list(official.parts if official else identity.parts),
        "version": official.version if official else None,
        "state": identity.state,
        "size": identity.size,
        "licence": official.licence if official else None,
        "is": str(identity),
    }


def _as_text(folders: list[Path], files: list[Identity]) -> str:
    lines = [_table(files) if files else "No weight files were found."]
    lines.append("Searched: " + (", ".join(map(str, folders)) or "no folder of weights exists"))
    used = installed(folders)
    for family in FAMILIES:
        if not (missing := [part for part in PARTS if part not in used.get(family, {})]):
            continue
        known = {part for row in CATALOG if row.family == family for part in row.parts}
        get = f": python -m taesd_ext weights download {family}" if known.issuperset(missing) else ""
        own = " (embedded until then)" if family in embedded_families() else ""
        lines.append(f"{family} is missing its {' and '.join(missing)}{own}{get}")
    if any(identity.state == UNVERIFIED for identity in files):
        lines.append("unverified: no official checksum matches; the structure was checked.")
    return "\n".join(lines)


def _table(files: Iterable[Identity]) -> str:
    rows = [
        {
            "family": identity.family_words or "-",
            "part": " + ".join(identity.official.parts if identity.official else identity.parts) or "-",
            "version": identity.official.version if identity.official else "-",
            "state": identity.state,
            "size": f"{identity.size / 1e6:.2f} MB",
            "file": f"{identity.path}" + (f"  ({identity.error})" if identity.error else ""),
        }
        for identity in files
    ]
    columns = ("family", "part", "version", "state", "size", "file")
    return table(rows, {name.upper(): f"{{{name}}}" for name in columns}, left=len(columns))
