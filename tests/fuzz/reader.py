"""The process that reads mutated files: a line with a path comes in, a line with what happened goes out."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def read_weights(path: Path) -> None:
    """Everything that the product does with a weight file: recognise it, load all of it, build what is in it."""
    from taesd_ext.weights.identify import identify
    from taesd_ext.weights.tensor_file import open_tensor_file
    from taesd_ext.weights.tiny_file import find_tiny_parts
    from taesd_ext.weights.vae_file import find_full_vae

    identify(path, always_hash=True)
    file = open_tensor_file(path)
    tensors = file.load(list(file.shapes))
    for name, shape in file.shapes.items():
        assert tuple(tensors[name].shape) == shape, name
        tensors[name].double().sum().item()
    for part in find_tiny_parts(file).values():
        part.build()
    find_full_vae(file)


def read_png(path: Path) -> None:
    """As a stored latent, and as a foreign picture that a user calls one."""
    from taesd_ext.codec.latent_image import has_note, plain_png_to_latent, png_to_latent
    from taesd_ext.errors import TaesdError

    try:
        has_note(path)
        plain_png_to_latent(path, "taesd")
    except TaesdError:
        pass
    latent, _ = png_to_latent(path)
    assert latent.ndim == 4
    latent.sum().item()


def memory_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    from taesd_ext.errors import TaesdError

    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kind = sys.argv[1]
    read = read_png if kind == "png" else read_weights
    # One honest file first, so that what is imported late does not count as the cases' memory.
    from seeds import file_name, seeds

    with tempfile.TemporaryDirectory() as folder:
        path = file_name(Path(folder), kind)
        for content in seeds(kind):
            path.write_bytes(content)
            try:
                read(path)
            except TaesdError as error:
                if kind != "h5":
                    raise AssertionError("an honest file was refused") from error
    before = memory_mb()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        answer: dict[str, object] = {}
        try:
            read(Path(json.loads(line)["path"]))
        except TaesdError as error:
            answer["refused"] = str(error)
        except BaseException:
            answer["crash"] = traceback.format_exc()[-1500:]
        answer["memory_mb"] = memory_mb() - before
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
