"""Tables in Excel workbooks: the first sheet that holds something."""

import re
import zipfile
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import openpyxl
import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from trainable.dataset.archive import check_zip
from trainable.dataset.encoding import Contents
from trainable.dataset.source import FileInfo, name_some
from trainable.dataset.table import unique_names
from trainable.errors import DataError

Row = tuple[Any, ...]


def read_xlsx(path: Path, contents: Contents, info: FileInfo) -> pd.DataFrame:
    """Return the table, and write into `info` how it was read.

    Raises:
        DataError: The file is no workbook, or an empty one.
    """
    del contents
    info.format = "xlsx"
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{info.name!r} is not a workbook, or has a password.",
            remedy="Save it again as .xlsx without a password.",
        )
    check_zip(path)
    try:
        sheets = _sheets(path)
    except (InvalidFileException, KeyError, ValueError, TypeError, ParseError) as error:
        raise DataError(
            f"{info.name!r} cannot be read as a workbook.", remedy="Save it again as .xlsx."
        ) from error
    filled = {name: rows for name, rows in sheets.items() if rows}
    if not filled:
        raise DataError(f"{info.name!r} has only empty sheets.", remedy="Pass a table with rows.")
    info.sheet = next(iter(filled))
    if len(filled) > 1:
        others = name_some([name for name in filled if name != info.sheet])
        info.notes.append(f"The sheet {info.sheet!r} was read, and not {others}.")
    return _frame(filled[info.sheet], info)


def _sheets(path: Path) -> dict[str, list[Row]]:
    with path.open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        try:
            return {
                sheet.title: [row for row in sheet.iter_rows(values_only=True) if _filled(row)]
                for sheet in book.worksheets
            }
        finally:
            book.close()


def _filled(row: Row) -> bool:
    return any(cell is not None and cell != "" for cell in row)


def _frame(rows: list[Row], info: FileInfo) -> pd.DataFrame:
    width = max(map(len, rows))
    rows = [row + (None,) * (width - len(row)) for row in rows]
    used = [k for k in range(width) if any(row[k] not in (None, "") for row in rows)]
    rows = [tuple(row[k] for k in used) for row in rows]
    info.header = _is_header(rows[0])
    if info.header:
        names = unique_names(rows[0])
        rows = rows[1:]
    else:
        names = unique_names([""] * len(used))
        info.notes.append(f"There is no header; the columns are column_1 to column_{len(used)}.")
    data = {
        name: [None if row[k] == "" else row[k] for row in rows] for k, name in enumerate(names)
    }
    return pd.DataFrame(data)


def _is_header(row: Row) -> bool:
    """Whether no cell is a value: years are the only numbers that serve as names."""
    return not any(
        cell is not None
        and not isinstance(cell, str)
        and not re.fullmatch(r"(1[89]|20|21)\d\d", str(cell))
        for cell in row
    )
