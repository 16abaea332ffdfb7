"""A scan's report, written as a table, JSON, CSV, Arrow or a page."""

from __future__ import annotations

import csv
import html
import importlib
import io
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any

from legato._files import PathLike, PendingFile, check_destinations, checked_path
from legato._printing import csv_cell, printable
from legato.errors import ArgumentError, DependencyError
from legato.rft.findings import VERDICTS, Findings, one_line, one_lines
from legato.rft.judging import Settings, judge
from legato.rft.page import report_page
from legato.rft.rollouts import Rollouts

__all__ = ["Report", "step_header", "step_line", "write_arrow"]


@dataclass(frozen=True, repr=False)
class Report(Findings):
    """What a scan found, and how to write it; see `Findings` for the arrays.

    Attributes
    ----------
    rollouts : Rollouts
        The sums that it is from.
    asked : Settings

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.
    compare : Did the std rise? Compare two scans prompt by prompt, each at its last step, by the tau of the first.
    select : Sort prompts by their pass rate, the mean reward's place in the range.

    Examples
    --------
    >>> from legato import rft
    >>> report = rft.scan({"prompt": list("aabb"), "reward": [0, 1, 1, 1]}, value_range=(0, 1))
    >>> report.prompt, report.std.tolist(), report.zero_std.tolist()
    (['a', 'b'], [0.7071067811865476, 0.0], [False, True])
    >>> report.merge(report).n.tolist(), report.to_arrow().num_rows
    ([4, 4], 2)
    >>> report.to_csv().splitlines()[0][:18], len(report.to_table().splitlines()) > 5
    ('prompt,n,mean,std,', True)
    >>> "overall" in report.to_json(), "<svg" in report.to_html()
    (True, True)
    >>> report.save("report.html")
    """

    rollouts: Rollouts = field(default_factory=Rollouts, repr=False, compare=False)
    asked: Settings = field(default_factory=Settings, repr=False, compare=False)

    def __repr__(self) -> str:
        """Return one line: how much was scanned, and the rule."""
        return f"<Report of {self._headline()[0]}>"

    def _repr_html_(self) -> str:
        """Show notebooks the page, in a frame of its own: its styles are not the notebook's."""
        page = html.escape(self.to_html())
        return f'<iframe sandbox srcdoc="{page}" width="100%" height="640" style="border: 0"></iframe>'

    @classmethod
    def of(cls, rollouts: Rollouts, settings: Settings) -> Report:
        """Judge rollouts."""
        found = judge(rollouts, settings)
        return cls(**{f.name: getattr(found, f.name) for f in fields(found)}, rollouts=rollouts, asked=settings)

    def merge(self, other: Report) -> Report:
        """Return the report of both logs together, with this one's settings: exactly that of one scan of both.

        See Also
        --------
        Scan.merge : Count what another scan has counted, which must read rewards alike. Returns itself.
        """
        if not isinstance(other, Report):
            raise ArgumentError(f"other: expected a Report, got {type(other).__name__}")
        both = Rollouts(self.rollouts.columns, self.rollouts.nan, self.rollouts.value_range)
        both.merge(self.rollouts)
        both.merge(other.rollouts)
        return Report.of(both, self.asked)

    def to_arrow(self) -> Any:
        """Return a pyarrow.Table, one row a group, which pandas, polars and DuckDB take as it is.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.
        """
        import pyarrow as pa

        columns = self.columns()
        return pa.table({name: pa.array(values, from_pandas=False) for name, values in columns.items()})

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame, one row a group.

        Raises
        ------
        DependencyError
            pandas is not installed.

        See Also
        --------
        Report.to_arrow : The same as a pyarrow.Table.
        """
        try:
            importlib.import_module("pandas")
        except ImportError:
            raise DependencyError("pandas is missing: pip install pandas") from None
        return self.to_arrow().to_pandas()

    def to_json(self) -> str:
        """Write everything as one JSON object.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.
        """
        parts = {"settings": self.settings, "overall": self.overall, "notes": self.notes, "prompts": self.rows()}
        return json.dumps(parts, indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Write one line a group, with `legato._printing.csv_cell`: ids as they are stand in JSON and Arrow alone.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(csv_cell, self.columns()))
        writer.writerows(map(csv_cell, row.values()) for row in self.rows())
        return text.getvalue()

    def to_table(self, limit: int = 20) -> str:
        """Write the summary and the `limit` groups of the smallest std, for a terminal.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.
        """
        lines = [*self._headline(), "", *self._population_lines(), "", *self._group_size_lines()]
        if self.overall["columns"]:
            lines += ["", *self._column_lines()]
        if self.has_steps:
            lines += ["", *self._step_lines(max(limit, 0))]
        o = self.overall
        what = "groups" if self.has_steps else "prompts"
        lines += [
            "",
            f"verdicts of {what}",
            *(f"  {name:<10} {o['verdicts'][name]:>9}  {o['shares'][name]:7.1%}" for name in VERDICTS),
            f"  std: 10th percentile {_text(o['std_p10'])}, median {_text(o['std_p50'])}",
            "",
            *self._prompt_lines(max(limit, 0)),
            "",
            *(f"note: {printable(note)}" for note in self.notes),
        ]
        return "\n".join(lines).rstrip() + "\n"

    def to_html(self, limit: int = 200, refresh_s: int | None = None) -> str:
        """Write a page with plots that needs no network: the `limit` groups of the smallest std are listed.

        With `refresh_s` a browser loads it again after so many seconds.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.
        """
        return report_page(self, limit, refresh_s)

    def save(self, path: PathLike) -> None:
        """Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.

        Raises
        ------
        ArgumentError
            If it is one of the files of rollouts.
        OutputError
            If it cannot be written.

        See Also
        --------
        Report.to_html : Write a page with plots that needs no network.
        Report.to_json : Write everything as one JSON object.
        """
        target = checked_path("path", path)
        check_destinations({f"input {file}": file for file in self.rollouts.files}, {"path": target})
        with PendingFile(target) as pending:
            self.write(pending)
            pending.commit()

    def write(self, pending: PendingFile) -> None:
        """Write what the destination's name asks for, as `save` does.

        See Also
        --------
        Report.save : Write to .html, .json, .csv, .parquet, .arrow or anything else as a table; complete or not at all.

        Examples
        --------
        >>> from legato import rft
        >>> from legato._files import PendingFile
        >>> with PendingFile("report.csv") as pending:
        ...     rft.scan({"prompt": ["a"], "reward": [0.0]}).write(pending)
        ...     pending.commit()
        """
        suffix = pending.destination.suffix
        if suffix in (".parquet", ".arrow", ".feather"):
            write_arrow(pending, self.to_arrow())
        else:
            text = {".html": self.to_html, ".json": self.to_json, ".csv": self.to_csv}.get(suffix, self.to_table)
            pending.write_text([text()])

    def _headline(self) -> list[str]:
        o, s = self.overall, self.settings
        low, high = s["value_range"]
        count = len(o["steps"])
        steps = f", {count} step{'s' if count > 1 else ''}" if self.has_steps else ""
        groups = f", {o['groups']} groups" if self.has_steps else ""
        values = f"rewards {low:g} or {high:g}" if s["two_valued"] else f"rewards in [{low:g}, {high:g}]"
        return [
            f"{o['prompts']} prompts{steps}{groups}, {o['rollouts']} rollouts; {values}; tau {s['tau']:g}, "
            f"{s['level']:.0%} intervals"
        ]

    def _population_lines(self) -> list[str]:
        p, s = self.overall["population"], self.settings
        low, high = s["value_range"]
        lines = [f"groups of {p['group_size']} rollouts"]
        for name, what in (
            ("no_gradient", "without a gradient"),
            ("all_zero", f"  all rewards {low:g}"),
            ("all_one", f"  all rewards {high:g}"),
        ):
            lines.append(f"  {what:<22} {_share_text(p[name])}")
        small = p["small_std"]
        lines.append(f"prompts of a std below tau: between {small['low']:.1%} and {small['high']:.1%}")
        return lines

    def _group_size_lines(self) -> list[str]:
        lines = ["group size  useful groups  (interval)          rollouts for one  mean std within"]
        for row in self.overall["group_sizes"]:
            if row["useful"] is None:
                lines.append(f"{row['size']:>10}  not known: no group has so many rollouts")
                break
            cost = "-" if row["rollouts_per_useful"] is None else f"{row['rollouts_per_useful']:.1f}"
            interval = f"[{row['low']:.1%}, {row['high']:.1%}]"
            lines.append(
                f"{row['size']:>10}  {row['useful']:>13.1%}  {interval:<18}  {cost:>16}  {_text(row['signal']):>15}"
            )
        return lines

    def _column_lines(self) -> list[str]:
        names = list(self.overall["columns"])
        width = max(6, *(len(one_line(name)) for name in names))
        lines = [f"{'reward':<{width}}    mean  mean std  constant groups  share of the variance"]
        for name in names:
            c = self.overall["columns"][name]
            share = "-" if c["share_of_variance"] is None else f"{c['share_of_variance']:.1%}"
            lines.append(
                f"{one_line(name):<{width}} {c['mean']:>7.4f}  {_text(c['mean_std']):>8}  {c['constant']:>15.1%}  "
                f"{share:>21}"
            )
        return lines

    def _step_lines(self, limit: int) -> list[str]:
        steps = self.overall["steps"]
        shown = steps[-limit:] if limit else []
        lines = [step_header()]
        if len(shown) < len(steps):
            lines.append(f"... {len(steps) - len(shown)} steps before")
        return lines + [step_line(step) for step in shown]

    def _prompt_lines(self, limit: int) -> list[str]:
        shown = self.order()[:limit]
        if not len(shown):
            return []
        names = one_lines([self.prompt[i] for i in shown])
        width = max(6, *map(len, names))
        step = f"{'step':>7} " if self.has_steps else ""
        lines = [f"{step}{'prompt':<{width}} {'n':>6} {'mean':>8} {'std':>8}  {'interval':<17} {'verdict':<10} more"]
        for name, i in zip(names, shown, strict=True):
            more = str(self.more_rollouts[i]) if self.more_rollouts[i] else ""
            step = f"{self.step[i]:>7} " if self.has_steps else ""
            lines.append(
                f"{step}{name:<{width}} {self.n[i]:>6} {self.mean[i]:>8.4f} {_text(self.std[i]):>8}  "
                f"[{self.std_low[i]:.4f}, {self.std_high[i]:.4f}]  {self.verdict[i]:<10} {more}".rstrip()
            )
        if len(shown) < len(self.n):
            lines.append(f"... {len(self.n) - len(shown)} more")
        return lines


def step_header() -> str:
    """Return the head of a table of steps."""
    names = ("groups", "rollouts", "mean", "std", "no gradient", "all 0", "all 1")
    return f"{'step':>7} " + " ".join(
        f"{name:>{width}}" for name, width in zip(names, (7, 9, 8, 8, 12, 7, 7), strict=True)
    )


def step_line(step: dict[str, Any]) -> str:
    """Return a step as a line of that table."""
    return (
        f"{'-' if step['step'] is None else step['step']:>7} {step['groups']:>7} {step['rollouts']:>9} "
        f"{step['mean']:>8.4f} {_text(step['std']):>8} {step['no_gradient']:>12.1%} {step['all_zero']:>7.1%} "
        f"{step['all_one']:>7.1%}"
    )


def write_arrow(pending: PendingFile, table: Any) -> None:
    """Write a table as Parquet or, by the destination's name, as Arrow's file."""
    import pyarrow.feather as pf
    import pyarrow.parquet as pq

    with pending.opened() as file:
        if pending.destination.suffix == ".parquet":
            pq.write_table(table, file)
        else:
            pf.write_feather(table, file, compression="uncompressed")


def _share_text(share: dict[str, Any]) -> str:
    if share["share"] is None:
        return "not known: no group has so many rollouts"
    return f"{share['share']:6.1%}  [{share['low']:.1%}, {share['high']:.1%}]"


def _text(x: float | None) -> str:
    return "-" if x is None or not math.isfinite(x) else f"{x:.4f}"
