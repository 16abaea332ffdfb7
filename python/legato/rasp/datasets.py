"""Instances of the tasks as files: JSON Lines or Parquet, one instance a row, or packed into contexts of one length."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from legato._extras import install_command
from legato._files import write_whole
from legato._scalars import as_count
from legato.errors import ArgumentError, DependencyError
from legato.rasp.tasks import Task

__all__ = ["packed", "write"]

Row = dict[str, Any]


def packed(instances: Iterable[tuple[list[int], list[int]]], context: int) -> list[Row]:
    """Put instances into contexts, in their order, each into the first open context that has room.

    Parameters
    ----------
    instances : iterable of (list of int, list of int)
        Prompt and answer.
    context : int
        Tokens of a context; longer instances are an error.

    Returns
    -------
    list of dict
        ``tokens``, padded with 0; ``document``, the number of each token's instance in the context, -1 for padding;
        ``answer``, 1 where the token belongs to an answer. Attention stays within a document, the loss on the answers.

    Examples
    --------
    >>> from legato.rasp import datasets
    >>> datasets.packed([([5], [6]), ([7], [8])], context=5)
    [{'tokens': [5, 6, 7, 8, 0], 'document': [0, 0, 1, 1, -1], 'answer': [0, 1, 0, 1, 0]}]
    """
    context = as_count("context", context)
    rows: list[Row] = []
    open_rows: list[Row] = []
    for prompt, answer in instances:
        size = len(prompt) + len(answer)
        if size > context:
            raise ArgumentError(f"context: expected at least the {size} tokens of an instance, got {context}")
        row = next((row for row in open_rows if len(row["tokens"]) + size <= context), None)
        if row is None:
            row = {"tokens": [], "document": [], "answer": []}
            rows.append(row)
            open_rows = [*open_rows[-63:], row]  # older ones stay as full as they are
        document = row["document"][-1] + 1 if row["document"] else 0
        row["tokens"] += [*prompt, *answer]
        row["document"] += [document] * size
        row["answer"] += [0] * len(prompt) + [1] * len(answer)
    for row in rows:
        missing = context - len(row["tokens"])
        row["tokens"] += [0] * missing
        row["document"] += [-1] * missing
        row["answer"] += [0] * missing
    return rows


def write(
    path: str | Path,
    task: Task,
    lengths: Iterable[int],
    rows: int,
    *,
    seed: int = 0,
    context: int | None = None,
    **options: Any,
) -> Path:
    """Write instances of a task; the file's ending says how: ``.jsonl`` or ``.parquet``.

    Parameters
    ----------
    path : path
    task : Task
    lengths : iterable of int
        Sizes of the task, drawn evenly.
    rows : int
        Instances.
    seed : int
    context : int, optional
        Tokens of a packed context (see `packed`); by default a row is ``length``, ``prompt`` and ``answer``.
    **options
        Of the task, as `Task.sample` takes them.

    Raises
    ------
    ArgumentError
        The ending is another, or an instance is longer than the context.
    DependencyError
        Parquet needs pyarrow.
    """
    path = Path(path)
    if path.suffix not in (".jsonl", ".parquet"):
        raise ArgumentError(f"path: expected .jsonl or .parquet, got {path.name!r}")
    sizes = [as_count("lengths", length) for length in lengths]
    if not sizes:
        raise ArgumentError("lengths: expected at least one")
    rows = as_count("rows", rows)
    rng = np.random.default_rng(as_count("seed", seed, 0, 2**64 - 1))
    drawn = rng.integers(len(sizes), size=rows)
    made: list[Row] = [{}] * rows
    for at, length in enumerate(sizes):
        places = np.flatnonzero(drawn == at)
        batch = task.sample(length, len(places), seed=int(rng.integers(2**62)), **options)
        for row, place in enumerate(places.tolist()):
            prompt, answer = batch.row(row)
            made[place] = {"length": length, "prompt": prompt, "answer": answer}
    if context is not None:
        made = packed(((row["prompt"], row["answer"]) for row in made), context)
    if path.suffix == ".jsonl":
        return write_whole(path, "".join(json.dumps(row) + "\n" for row in made))
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise DependencyError(f"Parquet needs pyarrow: {install_command('rft')}") from None
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(made), buffer)
    return write_whole(path, buffer.getvalue().to_pybytes())
