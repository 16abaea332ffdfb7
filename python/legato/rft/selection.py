"""Prompts to go on with: those that neither always fail nor always succeed."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from legato._files import PathLike, PendingFile, check_destinations, checked_path, parse_json, reason
from legato._scalars import as_choice, as_number, shown
from legato.errors import ArgumentError, InputError, OutputError
from legato.rft.prompts import prompt_keys
from legato.rft.readers import files_of, parts_of
from legato.rft.report import Report, write_arrow

__all__ = ["Selection", "select"]

Form: TypeAlias = Literal["ids", "jsonl", "parquet"]
FORMS: tuple[Form, ...] = get_args(Form)
_SUFFIXES = {"ids": ".txt", "jsonl": ".jsonl", "parquet": ".parquet"}
_SETS = ("keep", "easy", "hard")


@dataclass(frozen=True)
class Selection:
    """Three sets of prompts, each at its last step in the log.

    Attributes
    ----------
    keep, easy, hard : list
        Prompts within the band of pass rates, above it and below it.
    rows : dict of str to list of dict
        Of each set: prompt, n, mean, std, pass_rate.
    files : tuple of path
        Where the rollouts are from.

    See Also
    --------
    select : Sort prompts by their pass rate, the mean reward's place in the range.

    Examples
    --------
    >>> from pathlib import Path
    >>> from legato import rft
    >>> sets = rft.select(rft.scan({"prompt": list("aabb"), "reward": [0, 0, 0, 1]}, value_range=(0, 1)))
    >>> sets.keep, sets.hard, sets.rows["keep"][0]["pass_rate"]
    (['b'], ['a'], 0.5)
    >>> sets.save("sets")
    >>> Path("sets/keep.txt").read_text().split()
    ['b']
    """

    keep: list[Any]
    easy: list[Any]
    hard: list[Any]
    rows: dict[str, list[dict[str, Any]]]
    files: tuple[Path, ...] = ()

    def save(self, folder: PathLike, form: Form = "ids", data: PathLike | None = None, key: str | None = None) -> None:
        """Write keep, easy and hard to a folder; no file appears before all are complete.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        form : {"ids", "jsonl", "parquet"}
            A prompt a line, or tables with the columns prompt, n, mean, std and pass_rate; prompts that are chats are
            lists of messages again, as trainers read them.
        data : path, optional
            The data set that the prompts are from: the rows of each set's prompts, with all of their columns, in the
            same order.
        key : str, optional
            Its column that holds what the log calls the prompt; by default "prompt".

        Raises
        ------
        ArgumentError
            If a file to be written is the data set, or one of the files of rollouts.
        OutputError
            If the folder or a file in it cannot be written.

        See Also
        --------
        select : Sort prompts by their pass rate, the mean reward's place in the range.
        """
        form = as_choice("form", form, FORMS)
        if data is not None and form == "ids":
            raise ArgumentError("form: expected jsonl or parquet for the rows of a data set, got 'ids'")
        target, source = checked_path("folder", folder), None if data is None else checked_path("data", data)
        paths = {name: target / f"{name}{_SUFFIXES[form]}" for name in _SETS}
        read = {f"input {file}": file for file in (*self.files, *([] if source is None else files_of(source)))}
        check_destinations(read, paths)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise OutputError(f"{target}: cannot be made a folder ({reason(error)})") from None
        with ExitStack() as opened:
            pending = {name: opened.enter_context(PendingFile(path)) for name, path in paths.items()}
            tables = None if source is None else _split(source, key or "prompt", self)
            for name, file in pending.items():
                if form == "ids":
                    file.write_text(f"{id_line(prompt)}\n" for prompt in getattr(self, name))
                elif form == "jsonl":
                    rows = tables[name].to_pylist() if tables else self.rows[name]
                    plain = (_plain(row, tables is None) for row in rows)
                    file.write_text(f"{json.dumps(row, ensure_ascii=False, default=str)}\n" for row in plain)
                else:
                    write_arrow(file, tables[name] if tables else _table(self.rows[name]))
            for file in pending.values():
                file.commit()


def select(report: Report, band: tuple[float, float] = (0.1, 0.9), min_std: float = 0.0) -> Selection:
    """Sort prompts by their pass rate, the mean reward's place in the range.

    Parameters
    ----------
    report : Report
    band : (float, float)
        Pass rates to keep, both ends included.
    min_std : float
        Prompts within the band whose std is not above this go to the nearer other set.

    Returns
    -------
    Selection

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
    Selection : Three sets of prompts, each at its last step in the log.

    Examples
    --------
    >>> from legato import rft
    >>> report = rft.scan({"prompt": list("aabbcc"), "reward": [0, 0, 0, 1, 1, 1]})
    >>> rft.select(report).keep
    ['b']
    """
    if not isinstance(report, Report):
        raise ArgumentError(f"report: expected a Report, as scan gives it, got {type(report).__name__}")
    try:
        low, high = (as_number("band", end, least=0, most=1) for end in band)
    except Exception:  # not two, or no numbers
        low, high = 1.0, 0.0
    if low > high:
        raise ArgumentError(f"band: expected two numbers, 0 <= low <= high <= 1, got {shown(band)}")
    min_std = as_number("min_std", min_std, least=0)
    bottom, top = report.settings["value_range"]
    sets: dict[str, list[dict[str, Any]]] = {"keep": [], "easy": [], "hard": []}
    for i in report.latest().tolist():
        rate = float((report.mean[i] - bottom) / (top - bottom))
        std = float(report.std[i])
        name = "hard" if rate < low else "easy" if rate > high else "keep"
        if name == "keep" and min_std > 0 and not std > min_std:
            name = "hard" if rate < 0.5 else "easy"
        sets[name].append(
            {
                "prompt": report.prompt[i],
                "n": int(report.n[i]),
                "mean": float(report.mean[i]),
                "std": std if np.isfinite(std) else None,
                "pass_rate": rate,
            }
        )
    keep, easy, hard = ([row["prompt"] for row in sets[name]] for name in _SETS)
    return Selection(keep, easy, hard, sets, tuple(report.rollouts.files))


def id_line(prompt: Any) -> str:
    """Write the id as it is, or as JSON where it would break the line."""
    text = str(prompt)
    return text if text.isprintable() else json.dumps(prompt)


def _plain(row: dict[str, Any], own: bool) -> dict[str, Any]:
    return row | {"prompt": _messages(row["prompt"])} if own else row


def _messages(prompt: Any) -> Any:
    """Return a chat that the log keyed by its JSON as it was."""
    if isinstance(prompt, str) and prompt[:1] in "[{":
        try:
            return parse_json(prompt)
        except ValueError:
            pass
    return prompt


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    prompts = [_messages(row["prompt"]) for row in rows]
    try:
        column = pa.array(prompts)
    except pa.ArrowException:  # chats beside texts
        column = pa.array([row["prompt"] for row in rows])
    others = {"n": pa.int64(), "mean": pa.float64(), "std": pa.float64(), "pass_rate": pa.float64()}
    return pa.table({"prompt": column} | {n: pa.array([row[n] for row in rows], t) for n, t in others.items()})


def _split(data: Path, key: str, chosen: Selection) -> dict[str, Any]:
    """Return the rows of a data set whose key is in each set."""
    import pyarrow as pa

    found: dict[str, list[Any]] = {"keep": [], "easy": [], "hard": []}
    empty = None
    for part in parts_of(data):
        if key not in part.fields:
            raise InputError(f"{data}: no column {key!r}; there are {', '.join(part.fields)} (--key)")
        names = [name for name, field in part.fields.items() if len(field.path) == 1]
        for batch in part.batches(names, ""):
            table = pa.table({name: batch[name] for name in names})
            empty = table.slice(0, 0)
            keys = prompt_keys(batch[key])
            values = keys.to_pylist()
            for name in found:
                wanted = {str(prompt) for prompt in getattr(chosen, name)}
                found[name].append(table.filter(pa.array([str(value) in wanted for value in values])))
    if empty is None:
        raise InputError(f"{data}: expected at least one row, got none")
    return {name: pa.concat_tables(tables, promote_options="permissive") for name, tables in found.items()}
