"""A WebUI read by ``ast``: what is defined where, without importing or running any of it."""

import ast
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Missing(Exception):
    """The host has no such file or name."""


class HostSource:
    """The source tree of a WebUI, whose folder holds ``modules/``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._trees: dict[str, ast.Module] = {}

    def tree(self, file: str) -> ast.Module:
        if file not in self._trees:
            path = self.root / file
            if not path.is_file():
                raise Missing(f"no file {file}")
            self._trees[file] = ast.parse(path.read_text(encoding="utf-8-sig"), file)
        return self._trees[file]

    @cached_property
    def kind(self) -> str:
        """Which host this is: "a1111", "forge", "reforge", "classic", "neo", or "unknown"."""
        if not (self.root / "modules" / "sd_samplers_common.py").is_file():
            return "unknown"
        if not (self.root / "modules_forge").is_dir():
            return "a1111"
        version = str(self.literal("modules_forge/forge_version.py", "version"))
        if version in ("classic", "neo"):
            return version
        if (self.root / "backend").is_dir():
            return "forge"
        return "reforge" if (self.root / "ldm_patched").is_dir() else "unknown"

    def define(self, file: str, dotted: str) -> Definition:
        """The class, function or method of that name in the file."""
        scope: ast.AST = self.tree(file)
        for name in dotted.split("."):
            found = [node for node in _level(scope) if isinstance(node, Definition) and node.name == name]
            if not found:
                raise Missing(f"{file} defines no {dotted}")
            scope = found[-1]
        return scope

    def parameters(self, file: str, dotted: str) -> list[str]:
        """Parameter names in order, without self; ``*`` and ``**`` in front of what collects the rest.

        A class answers with those of its ``__init__``.
        """
        node = self.define(file, dotted)
        if isinstance(node, ast.ClassDef):
            node = self.define(file, f"{dotted}.__init__")
        given = node.args
        names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
        names += [f"*{given.vararg.arg}"] if given.vararg else []
        names += [argument.arg for argument in given.kwonlyargs]
        names += [f"**{given.kwarg.arg}"] if given.kwarg else []
        return names[1:] if names[:1] == ["self"] else names

    def attributes(self, file: str, class_name: str) -> set[str]:
        """Names that a class sets on itself or on its instances, methods included."""
        owner = self.define(file, class_name)
        names = {node.name for node in _level(owner) if isinstance(node, Definition)}
        for node in ast.walk(owner):
            for target in _targets(node):
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    names.add(target.attr)
                elif isinstance(target, ast.Name):
                    names.add(target.id)
        return names

    def attributes_set(self, file: str) -> set[str]:
        """Names of all attributes that the file assigns, on whatever object."""
        return {
            target.attr
            for node in ast.walk(self.tree(file))
            for target in _targets(node)
            if isinstance(target, ast.Attribute)
        }

    def literal(self, file: str, name: str) -> object:
        """The value of a module's constant."""
        for node in _level(self.tree(file)):
            for target in _targets(node):
                if isinstance(target, ast.Name) and target.id == name:
                    return ast.literal_eval(node.value)
        raise Missing(f"{file} sets no {name}")

    def imported(self, file: str) -> dict[str, str]:
        """Name in the file -> where its ``from x import y`` takes it from, "x.y"."""
        return {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(self.tree(file))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def names(self, file: str) -> set[str]:
        """Names that a module sets, defines as classes, or takes from elsewhere."""
        nodes = list(ast.walk(self.tree(file)))
        assigned = {target.id for node in nodes for target in _targets(node) if isinstance(target, ast.Name)}
        classes = {node.name for node in self.tree(file).body if isinstance(node, ast.ClassDef)}
        return assigned | classes | set(self.imported(file))

    def mentions(self, file: str, dotted: str) -> set[str]:
        """Names and dotted attributes that a function's body looks up when it runs."""
        body = ast.walk(self.define(file, dotted))
        return {ast.unparse(node) for node in body if isinstance(node, ast.Name | ast.Attribute)}

    def option(self, key: str) -> tuple[ast.Call, tuple[str, ...]]:
        """An option's ``OptionInfo(...)`` call and the literal section that it is declared in."""
        file = "modules/shared_options.py"
        for call in ast.walk(self.tree(file)):
            if not (isinstance(call, ast.Call) and ast.unparse(call.func).endswith("options_section") and call.args):
                continue
            for mapping in (node for node in ast.walk(call) if isinstance(node, ast.Dict)):
                for name, value in zip(mapping.keys, mapping.values, strict=True):
                    if isinstance(name, ast.Constant) and name.value == key:
                        return _option_info(value), ast.literal_eval(call.args[0])
        raise Missing(f"{file} declares no option {key}")

    def choices(self, key: str) -> tuple[str, ...]:
        """The choices of a radio option."""
        call, _ = self.option(key)
        for node in ast.walk(call):
            if isinstance(node, ast.Dict):
                for name, value in zip(node.keys, node.values, strict=True):
                    if isinstance(name, ast.Constant) and name.value == "choices":
                        return tuple(ast.literal_eval(value))
        raise Missing(f"the option {key} has no literal choices")

    def classes(self, file: str) -> dict[str, list[str]]:
        """Class -> the names of its bases."""
        return {
            node.name: [ast.unparse(base) for base in node.bases]
            for node in _level(self.tree(file))
            if isinstance(node, ast.ClassDef)
        }


def _level(scope: ast.AST) -> Iterator[ast.stmt]:
    """Statements that define names of a module or class: of its body and of the branches and blocks in it."""
    for node in getattr(scope, "body", []):
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _level(node)


def _targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return node.targets
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return [node.target]
    return []


def _option_info(node: ast.expr) -> ast.Call:
    """The OptionInfo call below a chain such as ``OptionInfo(...).info(...).html(...)``."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "OptionInfo":
            return call
    raise Missing("an option without an OptionInfo")
