"""The playground with downloads from a server on this machine: families' files are those of a table given as JSON.

python local_downloads.py TABLE --models DIR, where TABLE is {family: [OfficialFile's fields]}.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from taesd_ext.ui.playground import launch
from taesd_ext.weights import catalog, download
from taesd_ext.weights.catalog import OfficialFile


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("table", type=Path)
    parser.add_argument("--models", type=Path, required=True)
    given = parser.parse_args()
    table = json.loads(given.table.read_text())
    catalog.CATALOG = tuple(OfficialFile(**row) for rows in table.values() for row in rows)
    real = download.download_file
    download.download_file = lambda row, folder, transfer, **more: real(
        row, folder, replace(transfer, first_pause=0.2, timeout=5), **more
    )
    launch(given.models)


if __name__ == "__main__":
    main()
