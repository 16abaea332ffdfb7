"""Video: decode, estimate motion, warp, encode, and stabilize from end to end.

Files come in and go out with everything kept: sound, subtitles, timestamps, colour tags, bit depth. Pictures stay
planar YUV from the decoder to the encoder. The family needs the ``video`` extra; its heavy packages are
imported where they are used, so that ``import legato.video`` alone stays quick.

>>> from legato import video
>>> report = video.stabilize("in.mp4", "out.mp4")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from legato._lazily import lazily

if TYPE_CHECKING:
    from legato.video.batch import result_paths, stabilize_all
    from legato.video.live.line import stabilize_live
    from legato.video.live.report import LiveReport
    from legato.video.live.stabilizer import Stabilizer
    from legato.video.media.encoders import available_codecs
    from legato.video.media.planes import Planes, as_planes, luma
    from legato.video.media.reader import VideoFrame, VideoReader
    from legato.video.media.writer import VideoWriter
    from legato.video.motion.analysis import Analysis
    from legato.video.motion.tracking import Motion, Tracker, estimate_motion
    from legato.video.presets import PRESETS
    from legato.video.results.comparison import Comparison
    from legato.video.results.evaluation import VideoMetrics, evaluate
    from legato.video.results.report import StabilizeReport
    from legato.video.sequences import stabilize_frames
    from legato.video.stabilizing import analyze, render, stabilize
    from legato.video.synthetic.synthesis import GroundTruth, synthesize
    from legato.video.warping import warp

_HOMES = {
    "Analysis": "motion.analysis",
    "Comparison": "results.comparison",
    "GroundTruth": "synthetic.synthesis",
    "LiveReport": "live.report",
    "Motion": "motion.tracking",
    "Planes": "media.planes",
    "Stabilizer": "live.stabilizer",
    "PRESETS": "presets",
    "StabilizeReport": "results.report",
    "Tracker": "motion.tracking",
    "VideoFrame": "media.reader",
    "VideoMetrics": "results.evaluation",
    "VideoReader": "media.reader",
    "VideoWriter": "media.writer",
    "analyze": "stabilizing",
    "as_planes": "media.planes",
    "available_codecs": "media.encoders",
    "estimate_motion": "motion.tracking",
    "evaluate": "results.evaluation",
    "luma": "media.planes",
    "render": "stabilizing",
    "result_paths": "batch",
    "stabilize": "stabilizing",
    "stabilize_all": "batch",
    "stabilize_frames": "sequences",
    "stabilize_live": "live.line",
    "synthesize": "synthetic.synthesis",
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
    "stabilize_frames",
    "stabilize_live",
    "synthesize",
    "warp",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
