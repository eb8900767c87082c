"""The house's rules: who may import what, checked on the source itself."""

from __future__ import annotations

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
    """Every imported module's dotted name, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_import = {id(node) for node in _module_level(tree)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in at_import) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from taesd_ext.models import tiny` imports the module taesd_ext.models.tiny.
            found += [(f"{node.module}.{alias.name}", id(node) in at_import) for alias in node.names]
    return found


def _module_level(tree: ast.Module):
    """Nodes that run when the module is imported: not those in functions or under TYPE_CHECKING."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        waiting += list(ast.iter_child_nodes(node))


def floor_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = floor_of(path)
    if own == "__init__":
        return
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] != "taesd_ext" or len(parts) < 2 or parts[1] not in HEIGHT:
            continue
        assert HEIGHT[parts[1]] <= HEIGHT[own], f"{path.relative_to(ROOT)} on floor {own} imports {name} above it"
        if HEIGHT[parts[1]] == HEIGHT[own]:
            assert parts[1] == own or {parts[1], own} == {"cli", "__main__"}, f"{own} and {parts[1]} share a floor"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_host_and_gradio_stay_in_their_rooms(path: Path) -> None:
    inside = path.relative_to(PACKAGE).as_posix()
    for name, _ in imports(path):
        top = name.split(".")[0]
        if top in ("modules", "modules_forge", "launch", "ldm_patched", "backend"):
            assert inside == "host/webui.py", f"{inside} imports {name}; only host/webui.py knows the host"
        if top == "gradio":
            assert inside.startswith(GRADIO_ALLOWED), f"{inside} imports gradio"
        if inside.startswith("models/"):
            allowed = top == "torch" or top in sys.stdlib_module_names
            assert allowed or name.startswith("taesd_ext.models"), f"{inside} imports {name}; models know torch only"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_optional_packages_are_imported_where_used(path: Path) -> None:
    for name, at_import in imports(path):
        top = name.split(".")[0]
        host_room = path == PACKAGE / "host" / "webui.py"
        if at_import and top not in STANDARD_OR_RUNTIME and not host_room:
            # FastAPI and pydantic come with gradio, which no host is without.
            assert top in ("fastapi", "pydantic", "starlette"), f"{path.relative_to(ROOT)} needs {top} to be imported"


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
