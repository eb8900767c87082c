"""A host's own functions, taken out of its source and run on stand-ins: its code path, without the host."""

import ast
from typing import Any

from host_source import Definition, HostSource, Missing


def extract(
    host: HostSource, file: str, *names: str, into: dict[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    """Run the definitions of these functions, classes and constants in a namespace, ``into`` or a new one.

    What they need from elsewhere is ``given`` under the names that they know it by. The namespace comes back.
    """
    namespace = {} if into is None else into
    namespace.update(given)
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
