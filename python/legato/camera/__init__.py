"""Camera paths: homographies and their logarithms, L1-optimal corrections, metrics.

Arrays in, arrays out. Paper: Bradley, Klivington, Triscari, van der Merwe, "Cinematic-L1 Video Stabilization with a
Log-Homography Model", WACV 2021 (arXiv 2011.08144).

Examples
--------
>>> import numpy as np
>>> from legato import camera
>>> shake = np.tile(np.eye(3), (60, 1, 1))
>>> shake[1:, 0, 2] = 5.0 * np.sin(np.arange(1, 60))        # pixels from frame to frame
>>> path = camera.smooth_path(shake, size=(640, 360))
>>> path.status
'optimal'
>>> metrics = camera.path_metrics(shake, path.corrections, size=(640, 360))
>>> bool(metrics.jitter_px < 0.05 * metrics.input_jitter_px)
True
"""

from __future__ import annotations

from legato.camera.baselines import filter_path, grundmann_path
from legato.camera.frames import bridge_motion, crop_map
from legato.camera.homographies import HomographyError, coordinate_map, exp_homography, log_homography
from legato.camera.live import LivePath
from legato.camera.metrics import PathMetrics, Sway, path_metrics, path_sway
from legato.camera.options import PathOptions
from legato.camera.paths import CameraPath, path_program, smooth_path
from legato.camera.problem import contain
from legato.camera.programs import BandedProgram, ProgramSolution, SparseProgram
from legato.camera.streams import PathStream
from legato.errors import InfeasibleError

__all__ = [
    "BandedProgram",
    "CameraPath",
    "HomographyError",
    "InfeasibleError",
    "LivePath",
    "PathMetrics",
    "PathOptions",
    "PathStream",
    "ProgramSolution",
    "SparseProgram",
    "Sway",
    "bridge_motion",
    "contain",
    "coordinate_map",
    "crop_map",
    "exp_homography",
    "filter_path",
    "grundmann_path",
    "log_homography",
    "path_metrics",
    "path_program",
    "path_sway",
    "smooth_path",
]
