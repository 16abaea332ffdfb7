"""Video: decode, estimate motion, warp, encode, and stabilize from end to end.

Files come in and go out with everything kept: sound, subtitles, timestamps, colour tags, bit depth. Pictures stay
planar YUV from the decoder to the encoder. The family needs ``pip install "legato[video]"``; its heavy packages are
imported where they are used, so that ``import legato.video`` alone stays quick.

>>> from legato import video
>>> report = video.stabilize("in.mp4", "out.mp4")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from legato.video.comparison import Comparison
    from legato.video.evaluation import VideoMetrics, evaluate
    from legato.video.files import VideoFrame, VideoReader, VideoWriter, available_codecs
    from legato.video.planes import Planes, as_planes, luma
    from legato.video.stabilizing import StabilizeReport, stabilize
    from legato.video.synthesis import GroundTruth, synthesize
    from legato.video.tracking import Motion, Tracker, estimate_motion
    from legato.video.warping import warp

_HOMES = {
    "Comparison": "comparison",
    "GroundTruth": "synthesis",
    "Motion": "tracking",
    "Planes": "planes",
    "StabilizeReport": "stabilizing",
    "Tracker": "tracking",
    "VideoFrame": "files",
    "VideoMetrics": "evaluation",
    "VideoReader": "files",
    "VideoWriter": "files",
    "as_planes": "planes",
    "available_codecs": "files",
    "estimate_motion": "tracking",
    "evaluate": "evaluation",
    "luma": "planes",
    "stabilize": "stabilizing",
    "synthesize": "synthesis",
    "warp": "warping",
}

__all__ = [
    "Comparison",
    "GroundTruth",
    "Motion",
    "Planes",
    "StabilizeReport",
    "Tracker",
    "VideoFrame",
    "VideoMetrics",
    "VideoReader",
    "VideoWriter",
    "as_planes",
    "available_codecs",
    "estimate_motion",
    "evaluate",
    "luma",
    "stabilize",
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
