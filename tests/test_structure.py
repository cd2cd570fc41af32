"""The rooms of the package: few, and none imports another that imports it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import scopenet

PACKAGE = Path(scopenet.__file__).parent
FOLDERS = {x.name for x in PACKAGE.iterdir() if (x / "__init__.py").is_file()}


def room(parts: tuple[str, ...]) -> str:
    """The folder below the package, or the module beside the folders, that a module belongs to."""
    return parts[0] if parts else "__init__"


def imported_rooms(path: Path) -> set[str]:
    """Also those that are imported inside of functions, and for type checkers only."""
    place = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = place[: len(place) - node.level]
            module = base + tuple((node.module or "").split(".") if node.module else ())
            names = [(x.name,) for x in node.names] if not module else [()]
            found |= {room(module + name) for name in names}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = (
                [node.module] if isinstance(node, ast.ImportFrom) else [x.name for x in node.names]
            )
            assert not any(x.split(".")[0] == "scopenet" for x in names), path  # relative only
    return found


def test_rooms_do_not_import_each_other_in_circles():
    graph: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if "configs" in path.parts or path.name == "__main__.py":
            continue
        own = room(path.relative_to(PACKAGE).with_suffix("").parts)
        graph.setdefault(own, set()).update(imported_rooms(path) - {own})
    assert {"modeling", "data", "engine", "detector", "cli"} <= graph.keys()
    # The version, which needs nothing.
    order = list(
        TopologicalSorter(
            {k: v - {"__init__", "__version__"} for k, v in graph.items()}
        ).static_order()
    )
    assert order.index("modeling") < order.index("engine") < order.index("detector")
    assert order.index("data") < order.index("engine")


def test_there_are_at_most_eight_rooms():
    assert len(FOLDERS - {"configs"}) <= 8
