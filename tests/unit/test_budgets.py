"""The size and shape that the code base promises to keep; see CONTRIBUTING.md."""

import ast
import graphlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("trainable/**/*.py"), *ROOT.glob("jupyter_ext/**/*.py")])
Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_script(path: Path) -> bool:
    """Whether the file is one that runs in the sandbox, and is no part of the library."""
    parts = path.relative_to(ROOT).parts
    return parts[:3] == ("trainable", "proof", "checks") or (
        parts[:3] == ("trainable", "agent", "playbook") and len(parts) > 4
    )


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions() -> Iterator[tuple[Path, Function]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                yield path, node


def code_lines(node: Function) -> int:
    """Lines of the function without its docstring, which may be as long as it has to."""
    first = node.body[0]
    is_docstring = ast.get_docstring(node) is not None
    docstring = first.end_lineno - first.lineno + 1 if is_docstring else 0
    return node.end_lineno - node.lineno + 1 - docstring


def place(path: Path, node: Function) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"


def test_no_module_is_longer_than_400_lines() -> None:
    long = {str(path.relative_to(ROOT)): lines_of(path) for path in MODULES if lines_of(path) > 400}
    assert long == {}


def test_no_function_is_longer_than_60_lines() -> None:
    sizes = {place(path, node): code_lines(node) for path, node in functions()}
    assert {name: size for name, size in sizes.items() if size > 60} == {}


def test_the_median_module_has_fewer_than_150_lines() -> None:
    sizes = [lines_of(path) for path in MODULES if not is_script(path)]
    assert statistics.median(size for size in sizes if size > 5) < 150


def test_broad_excepts_stand_in_three_places_at_most() -> None:
    broad = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or any(
                isinstance(name, ast.Name) and name.id in ("Exception", "BaseException")
                for name in ast.walk(node.type)
            )
        )
    ]
    assert len(broad) <= 3, broad


def test_every_function_of_the_library_says_what_it_returns() -> None:
    silent = [
        place(path, node)
        for path, node in functions()
        if node.returns is None and not is_script(path)
    ]
    assert silent == []


@pytest.mark.parametrize("package", ["trainable", "trainable_jupyter"])
def test_modules_do_not_import_each_other_in_a_circle(package: str) -> None:
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    needs["trainable"] = set()  # scripts import it, and mean the one file that the sandbox offers
    graphlib.TopologicalSorter(needs).prepare()
