"""Which file serves a family: found by what the files hold, wherever they are and whatever they are called.

Where several hold the same part, the first folder's comes first, then the one under the name that the hosts look for.
What a file is was told once and is remembered as long as its size and time of change stay the same.
"""

from collections.abc import Iterable
from pathlib import Path

from taesd_ext.errors import TaesdError, log_once
from taesd_ext.latent_formats import FAMILIES, native_format
from taesd_ext.weights.folders import first_good, weight_files
from taesd_ext.weights.identify import Identity, identify, may_be_tiny
from taesd_ext.weights.tensor_file import SUFFIXES
from taesd_ext.weights.tiny_file import PARTS, TinyPart, read_tiny


class NoWeights(TaesdError):
    """No file of a family is installed; nothing is broken."""


def candidates(family: str, part: str, folders: Iterable[Path]) -> list[Path]:
    """The files that hold a family's part, best first."""
    return _serving(family, part, _tiny_files(folders))


def installed(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Family -> part -> the file that serves it."""
    files = _tiny_files(folders)
    found: dict[str, dict[str, Path]] = {}
    for family in FAMILIES:
        for part in PARTS:
            if paths := _serving(family, part, files):
                found.setdefault(family, {})[part] = paths[0]
    return found


def find_part(family: str, part: str, folders: Iterable[Path]) -> TinyPart | None:
    """A family's encoder or decoder from the first good file that holds it.

    A file under the family's name that holds something else, or is damaged, is said once; alone it is a TaesdError.
    """
    files = _tiny_files(folders)
    found = first_good(_serving(family, part, files), lambda path: read_tiny(path).get(part))
    named = (identity for identity, _ in files if _rank(family, part, identity.path) < len(_stems(family, part)))
    for problem in filter(None, (_misnamed(identity, family, part) for identity in named)):
        if found is None:
            raise problem
        log_once(f"bad file {problem.what}", f"{problem} Using {found.file.path} instead.")
    return found


def no_weights(family: str, folders: list[Path]) -> TaesdError:
    """That a family has no file, with the cure: a file that may be of it, or where to get one."""
    unsure = [found.path for found, _ in _tiny_files(folders) if found.is_guess and family in found.families]
    looked = ", ".join(map(str, folders)) or "no folder of weights exists"
    author = "taehv" if native_format(family).frames else "taesd"
    cure = (
        f"Get them under TAESD > Models, with `python -m taesd_ext weights download {family}`, or from "
        f"https://github.com/madebyollin/{author}"
    )
    if unsure:
        cure = f"If {unsure[0]} is of {family}, put that into its name: {family}_{unsure[0].name}"
    return NoWeights(f"No weights for {family}", f"no file of it in: {looked}", cure)


def _tiny_files(folders: Iterable[Path]) -> list[tuple[Identity, int]]:
    """What the files that are small enough are, and the number of their folder."""
    found = []
    for number, folder in enumerate(folders):
        for path in weight_files([folder]):
            try:
                if may_be_tiny(path.stat().st_size):
                    found.append((identify(path), number))
            except OSError:
                continue
    return found


def _serving(family: str, part: str, files: list[tuple[Identity, int]]) -> list[Path]:
    fitting = [
        (number, _rank(family, part, identity.path), identity.path.name, identity.path)
        for identity, number in files
        if identity.family == family and part in identity.parts
    ]
    return [path for *_, path in sorted(fitting)]


def _stems(family: str, part: str) -> tuple[str, ...]:
    return (f"{family}_{part}", family, f"{family}_combined")


def _rank(family: str, part: str, path: Path) -> int:
    """How near a name is to that which the hosts look for: split files, combined ones, diffusers folders, others."""
    stems = _stems(family, part)
    if path.stem in stems and path.suffix.lower() in SUFFIXES:
        return stems.index(path.stem)
    return len(stems) + (path.parent.name != family)


def _misnamed(found: Identity, family: str, part: str) -> TaesdError | None:
    """Why a file under the family's name does not serve it."""
    if found.error:
        return TaesdError(found.error)
    if found.family == family or part not in found.parts:
        return None
    return TaesdError(
        f"{found.path} is not a {family} {part}",
        f"what it holds is of {found.family_words}" if found.families else f"it is a {found.kind} one",
        f"Put the right {family}_{part} file in its place",
    )
