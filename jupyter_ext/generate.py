"""Render the models of `trainable.events` as TypeScript types and as a page of documentation.

Run it after a change to the models; with `--check` it only says whether the files are fresh.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import is_typeddict

from trainable import events
from trainable.stages import Stage

ROOT = Path(__file__).parent.parent
SCALARS = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    datetime: "string",
    Any: "unknown",
    NoneType: "null",
}
NOTE = "Generated from trainable/events.py by jupyter_ext/generate.py: run 'make fix'."
PREFACE = """\
Everything that happens in a session is one of these events. An event is stored before anybody
sees it, then delivered. `seq` counts from 1 in each session, has no gaps, and is the cursor for
`session.events(after=seq)` and `session.follow(after=seq)`. On the wire an event is one flat JSON
object of the fields below, whose types are given as TypeScript writes them: `time` is an ISO 8601
string in UTC, and a number that is NaN or infinite becomes null. Readers skip types and fields
that they don't know, so adding either breaks nobody.
"""


def main() -> int:
    """Write the generated files, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    check: bool = parser.parse_args().check
    stale = {path: text for path, text in outputs().items() if not _holds(path, text)}
    for path, text in stale.items():
        if check:
            print(f"{path.relative_to(ROOT)} is stale: run 'make fix'", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


def outputs() -> dict[Path, str]:
    """Return the generated files with what they should hold."""
    return {
        ROOT / "jupyter_ext/src/events.ts": typescript(),
        ROOT / "docs/events.md": markdown(),
    }


def typescript() -> str:
    """Return the module of TypeScript types."""
    stages = " | ".join(f"'{stage.value}'" for stage in Stage)
    kinds = "".join(f"\n  | {kind.__name__}" for kind in kinds_of_event())
    return "\n".join(
        [
            f"// {NOTE}\n",
            "/** A part of the pipeline; each needs the one before it. */",
            f"export type Stage = {stages};\n",
            *(interface(model) for model in models()),
            "/** Any event that this version knows; `type` tells which. */",
            f"export type TrainableEvent ={kinds};",
            "",
        ]
    )


def interface(model: type[Any]) -> str:
    """Return one model as an exported TypeScript interface with its documentation."""
    base = " extends BaseEvent" if is_event(model) else ""
    lines = [f"/** {summary(model)} */", f"export interface {model.__name__}{base} {{"]
    docs = field_docs(model)
    for name in annotations(model):
        if name in docs:
            lines.append(f"  /** {docs[name]} */")
        lines.append(f"  {name}: {type_name(annotations(model)[name])};")
    if allows_more(model):
        lines.append("  [field: string]: unknown;")
    return "\n".join([*lines, "}\n"])


def markdown() -> str:
    """Return the page of documentation."""
    parts = [f"# Events\n\n<!-- {NOTE} -->\n", PREFACE]
    parts.append(f"## Fields of every event\n\n{fields(events.BaseEvent)}")
    for kind in kinds_of_event():
        note = " It is delivered to readers in the same process only." if kind.transient else ""
        name = kind.model_fields["type"].default
        parts.append(f"## `{name}`\n\n{summary(kind)}{note}\n\n{fields(kind)}")
    parts.append("## Parts of events\n")
    for model in models():
        if not (is_event(model) or model is events.BaseEvent):
            note = " More fields may follow." if allows_more(model) else ""
            parts.append(f"### {model.__name__}\n\n{summary(model)}{note}\n\n{fields(model)}")
    return "\n".join(parts)


def fields(model: type[Any]) -> str:
    """Return the fields of one model as a markdown list; an event's type stands in its heading."""
    docs = field_docs(model)
    lines = [
        f"- `{name}`: {type_name(annotations(model)[name])}"
        + (f". {docs[name]}" if name in docs else "")
        for name in annotations(model)
        if not (is_event(model) and name == "type")
    ]
    return "\n".join([*lines, ""])


def kinds_of_event() -> tuple[type[events.BaseEvent], ...]:
    """Return the event models in the order of the union."""
    return get_args(events.Event)


def models() -> Iterator[type[Any]]:
    """Yield every model and typed dictionary of the module in the order of its source."""
    for value in vars(events).values():
        if (
            inspect.isclass(value)
            and (issubclass(value, BaseModel) or is_typeddict(value))
            and value.__module__ == events.__name__
        ):
            yield value


def is_event(model: type[Any]) -> bool:
    """Return whether `model` is a type of event."""
    return events.BaseEvent in model.__bases__


def annotations(model: type[Any]) -> dict[str, Any]:
    """Return the types of the fields that `model` adds to its base, or narrows."""
    known = model.__annotations__ if is_typeddict(model) else model.model_fields
    return {name: kind for name, kind in inspect.get_annotations(model).items() if name in known}


def allows_more(model: type[Any]) -> bool:
    """Return whether fields that are not declared are kept."""
    return not is_typeddict(model) and model.model_config.get("extra") == "allow"


def summary(model: type[Any]) -> str:
    """Return the first line of the model's docstring."""
    return (model.__doc__ or "").strip().splitlines()[0]


def field_docs(model: type[Any]) -> dict[str, str]:
    """Return the docstrings that stand below the fields of `model`."""
    tree = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = " ".join(text.split())
            case _:
                pass
    return docs


def type_name(annotation: Any) -> str:
    """Return a field's type as TypeScript writes it."""
    if is_typeddict(annotation) or (
        isinstance(annotation, type) and issubclass(annotation, (BaseModel, StrEnum))
    ):
        return annotation.__name__
    if annotation in SCALARS:
        return SCALARS[annotation]
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(f"'{value}'" for value in arguments)
    if origin is UnionType:
        return " | ".join(type_name(argument) for argument in arguments)
    if origin is list:
        inner = type_name(arguments[0])
        return f"({inner})[]" if " " in inner else f"{inner}[]"
    if origin is dict:
        return f"Record<string, {type_name(arguments[1])}>"
    raise TypeError(f"no TypeScript type is known for {annotation!r}: add it to generate.py")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
