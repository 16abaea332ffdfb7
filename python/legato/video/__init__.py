"""Video: decode, estimate motion, warp, encode, and stabilize from end to end.

Files come in and go out with everything kept: sound, subtitles, timestamps, colour tags, bit depth. Pictures stay
planar YUV from the decoder to the encoder. The family needs the ``video`` extra; its heavy packages are
imported where they are used, so that ``import legato.video`` alone stays quick.

>>> from legato import video
>>> report = video.stabilize("in.mp4", "out.mp4")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legato.video.analysis import Analysis
    from legato.video.batch import result_paths, stabilize_all
    from legato.video.comparison import Comparison
    from legato.video.evaluation import VideoMetrics, evaluate
    from legato.video.files import VideoFrame, VideoReader, VideoWriter, available_codecs
    from legato.video.live import Stabilizer
    from legato.video.planes import Planes, as_planes, luma
    from legato.video.presets import PRESETS
    from legato.video.report import StabilizeReport
    from legato.video.stabilizing import analyze, render, stabilize
    from legato.video.streaming import LiveReport, stabilize_live
    from legato.video.synthesis import GroundTruth, synthesize
    from legato.video.tracking import Motion, Tracker, estimate_motion
    from legato.video.warping import warp

_HOMES = {
    "Analysis": "analysis",
    "Comparison": "comparison",
    "GroundTruth": "synthesis",
    "LiveReport": "streaming",
    "Motion": "tracking",
    "Planes": "planes",
    "Stabilizer": "live",
    "PRESETS": "presets",
    "StabilizeReport": "report",
    "Tracker": "tracking",
    "VideoFrame": "files",
    "VideoMetrics": "evaluation",
    "VideoReader": "files",
    "VideoWriter": "files",
    "analyze": "stabilizing",
    "as_planes": "planes",
    "available_codecs": "files",
    "estimate_motion": "tracking",
    "evaluate": "evaluation",
    "luma": "planes",
    "render": "stabilizing",
    "result_paths": "batch",
    "stabilize": "stabilizing",
    "stabilize_live": "streaming",
    "stabilize_all": "batch",
    "synthesize": "synthesis",
    "warp": "warping",
}

__all__ = [
    "PRESETS",
    "Analysis",
    "Comparison",
    "GroundTruth",
    "LiveReport",
    "Motion",
    "Planes",
    "StabilizeReport",
    "Stabilizer",
    "Tracker",
    "VideoFrame",
    "VideoMetrics",
    "VideoReader",
    "VideoWriter",
    "analyze",
    "as_planes",
    "available_codecs",
    "estimate_motion",
    "evaluate",
    "luma",
    "render",
    "result_paths",
    "stabilize",
    "stabilize_all",
    "stabilize_live",
    "synthesize",
    "warp",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
