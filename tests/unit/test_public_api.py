import ast
import resource
import subprocess
import sys
from pathlib import Path

import trainable

HEAVY = (
    "asyncio pandas numpy pydantic sqlmodel sqlalchemy plotly boto3 duckdb modal anywidget IPython"
    " matplotlib sklearn alembic typer rich"
)


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def names_that_type_checkers_see() -> set[str]:
    tree = ast.parse(Path(trainable.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in block.body for alias in node.names}


def test_all_is_sorted_and_complete() -> None:
    assert trainable.__all__ == sorted(trainable.__all__)
    assert set(trainable.__all__) == names_that_type_checkers_see()


def test_every_public_name_leads_to_the_object_of_that_name() -> None:
    assert [
        n for n in trainable.__all__ if getattr(trainable, n).__name__.split(".")[-1] != n
    ] == []


def test_every_public_name_is_documented() -> None:
    assert [name for name in trainable.__all__ if not getattr(trainable, name).__doc__] == []


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    assert not hasattr(trainable, "sesion")


def test_importing_the_library_loads_no_heavy_package() -> None:
    loaded = run(
        f"import sys, trainable; print(*[m for m in '{HEAVY}'.split() if m in sys.modules])"
    )
    assert loaded == ""


def test_importing_the_library_costs_at_most_three_bare_interpreters() -> None:
    bare = min(cpu_seconds("pass") for _ in range(5))
    assert min(cpu_seconds("import trainable") for _ in range(5)) <= 3 * bare
