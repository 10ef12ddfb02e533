import ast
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


def test_looking_at_sessions_loads_no_data_science_stack() -> None:
    code = "import sys, trainable.cli; trainable.Session, trainable.sessions()"
    loaded = run(
        f"{code}; print(*[m for m in 'pandas sklearn duckdb'.split() if m in sys.modules])"
    )
    assert loaded == ""
