"""The house's rules: who may import what, checked on the source itself."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "taesd_ext"

# From the ground up. A floor may import itself and what lies below it.
FLOORS = [
    ("errors", "latent_format"),
    ("latent_formats",),
    ("settings",),
    ("models",),
    ("weights",),
    ("codec",),
    ("learning",),
    ("preview",),
    ("commands",),
    ("ui",),
    ("cli", "__main__"),
    ("host",),
]
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor}
GRADIO_ALLOWED = ("ui/", "host/options.py", "host/accordion.py")
RUNTIME = {"torch", "numpy", "PIL", "safetensors", "gradio", "filelock", "huggingface_hub", "httpx", "tqdm"}
"""What every host brings."""
STANDARD_OR_RUNTIME = {*sys.stdlib_module_names, *RUNTIME, "taesd_ext"}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module's dotted name, and whether it is imported when the file is: by the module's own level, not
    by a function or under TYPE_CHECKING."""
    found = []

    def walk(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from taesd_ext.models import tiny` imports the module taesd_ext.models.tiny.
            found.extend((f"{node.module}.{alias.name}", at_import) for alias in node.names)
        later = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        later = later or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for child in ast.iter_child_nodes(node):
            walk(child, at_import and not later)

    walk(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_file_imports(path: Path) -> None:
    inside = path.relative_to(PACKAGE).as_posix()
    own = inside.split("/")[0].removesuffix(".py")
    for name, at_import in imports(path):
        top, _, rest = name.partition(".")
        floor = rest.split(".")[0]
        if top == "taesd_ext" and floor in HEIGHT and own != "__init__":
            below = HEIGHT[floor] < HEIGHT[own]
            assert below or floor == own or {floor, own} == {"cli", "__main__"}, f"{inside} imports {name}"
        if top in ("modules", "modules_forge", "launch", "ldm_patched", "backend"):
            assert inside == "host/webui.py", f"{inside} imports {name}; only host/webui.py knows the host"
        elif at_import and top not in STANDARD_OR_RUNTIME:
            # FastAPI and pydantic come with gradio, which no host is without.
            assert top in ("fastapi", "pydantic", "starlette"), f"{inside} needs {top} to be imported"
        if top == "gradio":
            assert inside.startswith(GRADIO_ALLOWED), f"{inside} imports gradio"
        if inside.startswith("models/"):
            allowed = top == "torch" or top in sys.stdlib_module_names or name.startswith("taesd_ext.models")
            assert allowed, f"{inside} imports {name}; models know torch only"


def test_nothing_imports_in_a_circle() -> None:
    """Whenever it is imported: at the top of a file, under TYPE_CHECKING or in a function."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
    edges = {
        module: {target if target in paths else target.rpartition(".")[0] for target, _ in imports(path)} & set(paths)
        for module, path in paths.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module in done:
            return
        for target in sorted(edges[module] - {module}):
            visit(target, (*trail, module))
        done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_the_entry_stays_thin() -> None:
    for path in (ROOT / "scripts").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, f"{path.name} is only an entry"
