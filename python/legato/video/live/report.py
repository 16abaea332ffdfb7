"""What a live run tells: latencies, what was lost, what was repaired."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from legato._printing import printable
from legato.video.results.report import counted

__all__ = ["LatencyHistogram", "LiveReport"]


class LatencyHistogram:
    """Times in bins of one percent, from 10 microseconds to 1000 seconds: bounded, however many are recorded."""

    _LEAST, _RATIO = 1e-5, 1.01

    def __init__(self) -> None:
        bins = math.ceil(math.log(1e8) / math.log(self._RATIO))
        self._counts = np.zeros(bins + 1, np.int64)
        self.max_s = 0.0

    @property
    def count(self) -> int:
        """Times recorded."""
        return int(self._counts.sum())

    def record(self, seconds: float) -> None:
        """Count a time."""
        at = math.log(max(seconds, self._LEAST) / self._LEAST) / math.log(self._RATIO)
        self._counts[min(math.ceil(at), len(self._counts) - 1)] += 1
        self.max_s = max(self.max_s, seconds)

    def percentile_s(self, q: float) -> float:
        """Give the time that `q` percent do not exceed, to one percent; NaN before anything is recorded."""
        total = self.count
        if total == 0:
            return math.nan
        at = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(q / 100 * total))))
        return min(self._LEAST * self._RATIO**at, self.max_s)

    def coarse(self) -> list[tuple[float, int]]:
        """Give (upper edge in ms, count) in bins of a factor of two, without empty ones at the ends."""
        edges_ms = 1e3 * self._LEAST * self._RATIO ** np.arange(len(self._counts))
        powers = np.ceil(np.log2(edges_ms)).astype(int)
        sums = {int(p): int(self._counts[powers == p].sum()) for p in range(powers[0], powers[-1] + 1)}
        used = [p for p, count in sums.items() if count]
        return [(2.0**p, sums[p]) for p in range(used[0], used[-1] + 1)] if used else []


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What a live run did.

    Attributes
    ----------
    source, destination : str
        As named by the caller, without passwords.
    ended : {"input", "duration", "window", "interrupted", "stalled", "lost", "failed"}
        Why it ended: the input was over, the duration asked for was reached, the window was closed, Ctrl-C or SIGTERM;
        or the input gave nothing for too long, or broke off and did not come back; or an error, which is also raised.
        But for an error of the output, what was written is complete.
    note : str
        What went wrong, in one line; empty where nothing did.
    size : (int, int)
        Of the pictures written.
    frame_rate : float
        Frames a second of the pictures, to which the weights were adapted.
    latency_frames : int
        The delay asked for.
    frames_read, frames_dropped, frames_written : int
        Pictures decoded and taken on, dropped since computing could not keep up, and written.
    skipped_packets, damaged_frames, repaired_timestamps : int
        As counted by `VideoReader`, over all connections.
    failed, duplicates, cuts, rested : int
        As counted by `Stabilizer`.
    reconnects : int
        How often the source was opened again.
    output_reconnects : int
        How often the output was.
    sound : {"copied", "encoded", "none"}
        What became of the sound.
    latency_ms : dict
        Time from when the packet of frame t + latency_frames was read until frame t was written: what comes on top of
        the delay asked for. "p50", "p90", "p99", "max", and "histogram" as (upper edge, count).
    delay_ms : float
        The delay asked for.
    busy : dict
        Share of the wall time that each thread worked: "read" (decoding), "compute", "write".
    seconds : float
        Wall time from the first picture to the end.

    See Also
    --------
    stabilize_live : Steady a live video with a fixed delay.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=6)
    >>> report = video.stabilize_live("shaky.mp4", "steady.mp4", latency_frames=2)
    >>> report.ended, report.frames_written
    ('input', 6)
    >>> len(report.summary().splitlines()), report.to_json()[0]
    (2, '{')
    """

    source: str
    destination: str
    ended: str
    note: str
    size: tuple[int, int]
    frame_rate: float
    latency_frames: int
    frames_read: int
    frames_dropped: int
    frames_written: int
    skipped_packets: int
    damaged_frames: int
    repaired_timestamps: int
    failed: int
    duplicates: int
    cuts: int
    rested: int
    reconnects: int
    output_reconnects: int
    sound: str
    latency_ms: dict[str, Any]
    delay_ms: float
    busy: dict[str, float]
    seconds: float

    def to_json(self) -> str:
        """Give the report as JSON text; what is not known becomes null.

        See Also
        --------
        LiveReport.summary : Give the run in two lines.
        """

        def finite(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        content = {k: {n: finite(x) for n, x in v.items()} if isinstance(v, dict) else v for k, v in self._items()}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    def _items(self) -> list[tuple[str, Any]]:
        return list(asdict(self).items())

    def summary(self) -> str:
        """Give the run in two lines.

        See Also
        --------
        LiveReport.to_json : Give the report as JSON text; what is not known becomes null.
        """
        lost = f", {self.frames_dropped} dropped" if self.frames_dropped else ""
        if self.skipped_packets or self.damaged_frames:
            skipped, damaged = counted(self.skipped_packets, "packet"), counted(self.damaged_frames, "frame")
            lost += f", {skipped} skipped, {damaged} damaged"
        again = f", reconnected {self.reconnects} times" if self.reconnects else ""
        if self.output_reconnects:
            again += f", output opened again {self.output_reconnects} times"
        rate = self.frames_written / self.seconds if self.seconds > 0 else 0.0
        if self.rested:
            lost += f", {self.rested} left as they were (they would not become steadier)"
        late = self.latency_ms
        beyond = "too short to say what came on top of it"  # all pictures were released by the end of the stream
        if math.isfinite(late["p50"]):
            beyond = f"beyond it p50 {late['p50']:.1f} ms, p99 {late['p99']:.1f} ms, most {late['max']:.1f} ms"
        return (
            f"{printable(self.destination)}: {counted(self.frames_written, 'frame')} in {self.seconds:.1f} s "
            f"({rate:.1f} fps){lost}{again}; ended: {self.ended}\n"
            f"  delay {counted(self.latency_frames, 'frame')} ({self.delay_ms:.0f} ms), {beyond}"
        )


def without_password(url: str) -> str:
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
