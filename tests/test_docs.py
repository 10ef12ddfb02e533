"""The documents tell the truth: examples run, generated pages are fresh, nothing is left out."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from pytest_examples import CodeExample, EvalExample, find_examples

from trainable import cli, events
from trainable.settings import Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = "\n".join(
    [README, *(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/**/*.md"))]
)
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
EXAMPLES = list(find_examples(str(ROOT / "README.md")))


def awaits_at_the_top(example: CodeExample) -> bool:
    """Whether the example is meant for a notebook cell."""
    return bool(re.search(r"^(await|async for|\w+ = await)\b", example.source, re.MULTILINE))


def cells(path: Path) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not awaits_at_the_top(e)], ids=str)
def test_a_readme_example_runs(
    example: CodeExample,
    eval_example: EvalExample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "#>" in example.source:
        eval_example.run_print_check(example)
    else:
        eval_example.run(example)


def test_readme_examples_for_a_notebook_are_cells_of_the_quickstart() -> None:
    quickstart = "\n".join(cells(ROOT / "notebooks/quickstart.ipynb"))
    examples = [example.source.strip() for example in EXAMPLES if awaits_at_the_top(example)]
    assert examples
    assert [source for source in examples if source not in quickstart] == []


def test_generated_files_are_fresh() -> None:
    command = [sys.executable, str(ROOT / "jupyter_ext/generate.py"), "--check"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == ""


def test_every_event_is_documented() -> None:
    kinds = [kind.model_fields["type"].default for kind in get_args(events.Event)]
    assert [kind for kind in kinds if f"`{kind}`" not in PAGES] == []


def test_every_command_is_in_the_readme() -> None:
    commands = typer.main.get_command(cli.app).commands
    assert [name for name in commands if f"trainable {name}" not in README] == []


def test_every_setting_is_in_the_readme() -> None:
    names = [str(field.validation_alias) for field in Settings.model_fields.values()]
    assert [name for name in names if f"`{name}`" not in README] == []


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets
    assert [t for t in targets[1].split() if not re.search(rf"^{t}:.*## ", makefile, re.M)] == []


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    ]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]$", changelog, re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_stored_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [c for c in code if c["outputs"] or c["execution_count"] is not None] == []


def test_every_module_says_what_it_is_in_one_line() -> None:
    modules = [*ROOT.glob("trainable/**/*.py"), *ROOT.glob("jupyter_ext/**/*.py")]
    first_lines = {
        path: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        for path in modules
    }
    assert [str(path) for path, line in first_lines.items() if len(line) < 10] == []
