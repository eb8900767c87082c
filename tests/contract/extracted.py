"""A host's own functions, taken out of its source and run on stand-ins: its code path, without the host."""

import ast
from typing import Any

from host_source import Definition, HostSource, Missing


def extract(host: HostSource, file: str, *names: str, **namespace: Any) -> dict[str, Any]:
    """Run the definitions of these functions, classes and constants; gives them by name.

    ``namespace``: what they need from elsewhere, under the names that they know it by.
    """
    wanted = dict.fromkeys(names)
    for node in host.tree(file).body:
        if isinstance(node, Definition) and node.name in wanted:
            wanted[node.name] = node
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in wanted:
            wanted[node.targets[0].id] = node
    gone = [name for name, node in wanted.items() if node is None]
    if gone:
        raise Missing(f"{file} defines no {', '.join(gone)}")
    body = [node for node in host.tree(file).body if node in wanted.values()]
    exec(compile(ast.Module(body, []), str(host.root / file), "exec"), namespace)
    return namespace
