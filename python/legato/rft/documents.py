"""JSON that is not one row a rollout: which rows or columns a document, or a line with a step's table, stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from legato._files import MOST_BYTES, parse_json
from legato.errors import InputError

__all__ = ["archived_samples", "harness_filter", "harness_task", "is_table", "rows_of_document", "rows_of_tables"]

Row = Mapping[str, Any]

# lm-eval numbers the documents of each task from 0; only the file's name says which task: samples_gsm8k_2026-01-31T....
_HARNESS = re.compile(r"samples_(.+)_\d{4}-\d\d-\d\dT")
_SAMPLES = re.compile(r"samples/[^/]+\.json")


def rows_of_document(found: Mapping[str, Any]) -> Iterable[Row] | Mapping[str, list[Any]]:
    """Return the rows of an object of JSON, or its columns."""
    if isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):  # a wandb table
        return (dict(zip(found["columns"], row, strict=False)) for row in found["data"])
    results = found.get("eval")
    if isinstance(results, dict) and results and all(isinstance(result, list) for result in results.values()):
        # EvalPlus: task -> results
        return ({"task_id": task, **one} for task, result in results.items() for one in result)
    for key in ("rollouts", "results", "samples", "rows", "data"):  # Inspect's logs have samples
        if isinstance(found.get(key), list) and all(isinstance(row, dict) for row in found[key]):
            rows: list[Row] = found[key]
            return rows
    columns = {key: value for key, value in found.items() if isinstance(value, list)}
    if columns and len({len(value) for value in columns.values()}) == 1 and len(columns) > 1:
        return columns
    return [found]


def is_table(row: Row) -> bool:
    """Tell whether a line is the table of a whole step, a list for each column, as ms-swift writes completions."""
    prompts = row.get("prompt", row.get("messages"))
    if not isinstance(prompts, list) or not isinstance(row.get("completion"), list):
        return False
    lengths = {len(value) if isinstance(value, list) else -1 for value in row.values()}
    return len(lengths) == 1 and not any(isinstance(prompt, dict) for prompt in prompts)


def rows_of_tables(name: str, tables: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows of a file of such lines."""
    for number, table in enumerate(tables):
        if not is_table(table):
            raise InputError(f"{name}: table {number}: expected columns of one length, as in the tables before it")
        for values in zip(*table.values(), strict=True):
            yield dict(zip(table, values, strict=True))


def archived_samples(path: Path) -> Iterator[Row]:
    """Yield the samples of Inspect's log in its own format (.eval), which is an archive of one file a sample."""
    with ZipFile(path) as archive:
        members = [member for member in archive.infolist() if _SAMPLES.fullmatch(member.filename)]
        if not members:
            raise InputError(f"{path}: no samples in this log")
        for member in sorted(members, key=lambda member: member.filename):
            if member.file_size > MOST_BYTES:
                raise InputError(f"{path}: {member.filename} is longer than {MOST_BYTES} bytes")
            yield parse_json(archive.read(member).decode())


def harness_filter(row: Row) -> str | None:
    """Return the filter of lm-eval's answers that the first row has; other filters score the same answers again."""
    found = row.get("filter")
    return found if isinstance(found, str) and "doc_id" in row and "filtered_resps" in row else None


def harness_task(path: Path) -> str | None:
    """Return the task that the name of lm-eval's file of samples tells."""
    found = _HARNESS.match(path.name)
    return found[1] if found else None
