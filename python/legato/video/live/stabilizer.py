"""Stabilize pictures while they arrive: one in, one out, a fixed number of frames later."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from legato import camera
from legato._scalars import as_choice, as_flag, as_threads, shown
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError
from legato.video.choices import INTERPOLATIONS, Interpolation
from legato.video.media.frames import Frame, owned, picture_of, redrawn
from legato.video.media.planes import luma
from legato.video.motion.guard import LiveGuard, traces
from legato.video.motion.tracking import Tracker
from legato.video.presets import PRESETS
from legato.video.warping import warp

__all__ = ["LIVE_OPTIONS", "Stabilizer"]

FrameT = TypeVar("FrameT", bound=Frame)
Floats = NDArray[np.float64]

LIVE_OPTIONS = PRESETS["standard"].live_options()

_GLANCE = (32, 18)  # a picture reduced to this tells one scene from another
_GLANCE_SHIFT = 4  # cells by which a camera may have moved between two frames
_GLANCE_CONTRAST = 4.0  # gray levels: below, a picture is too flat to be told from another
_ALIKE = 0.6  # correlation of two glances below which they show two scenes


class Stabilizer:
    """Steady pictures with a fixed delay.

    The picture that comes out of a push is the one pushed `latency_frames` before, drawn anew with a correction that
    knows the camera's motion up to the newest picture; exactly one comes out a push from then on, in order, none lost
    and none twice. Memory does not grow: `latency_frames` pictures are held, and the motion of a few more.

    Ten frames of delay come close to what a whole file allows; the motion ahead is predicted, which counts the more
    the shorter the delay is and takes out part of the shake even at 0 (the page on live video has the measurements).

    Where the pictures of the last three seconds would not become steadier, as of a camera that stands still while a car
    drives through, the view goes over to the whole picture as it is, and back when there is something to gain.

    Parameters
    ----------
    size : (int, int)
        Width and height of the pictures, in pixels. The pictures that come out have the same size.
    fps : float
        Frames a second, to which the weights of the path are adapted.
    options : legato.camera.PathOptions, optional
        By default its defaults with ``crop=0.18`` and ``inset_px=0.5``: with the future unknown, a path needs more
        room than that of a file.
    latency_frames : int
        Pictures that follow a picture before it comes out, from 0 up.
    interpolation : {"bilinear", "bicubic", "lanczos"}
        See `warp`.
    mask : (height, width) bool or uint8 array, optional
        Nonzero where motion may be measured (see `Tracker`).
    guard : bool
        Whether pictures that would not become steadier are left as they are.
    threads : int
        Threads for the warp.

    Attributes
    ----------
    frames : int
        Pictures pushed.
    failed, duplicates, cuts : int
        How many of them had a motion that could not be measured (it is bridged), repeated the one before, or began
        another scene (nothing is smoothed across).
    rested : int
        How many of those that came out were, by half or more, left as they are.
    corrections : (k, 3, 3) float64 array
        Of the pictures that the last `push` or `flush` returned: output pixel to input pixel.

    Raises
    ------
    ArgumentError
        If an argument is not as described.

    See Also
    --------
    stabilize_live : Steady a live video with a fixed delay.
    stabilize_frames : Steady the pictures of a clip: what `stabilize` does to a file.
    legato.camera.LivePath : A camera path with a fixed delay, for pictures that are shown while they are filmed.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import video
    >>> st = video.Stabilizer((160, 120), 30, latency_frames=2)
    >>> [len(st.push(np.zeros((120, 160, 3), np.uint8))) for _ in range(4)], len(st.flush())
    ([0, 0, 1, 1], 2)
    """

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        *,
        options: camera.PathOptions | None = None,
        latency_frames: int = 30,
        interpolation: Interpolation = "bicubic",
        mask: NDArray[Any] | None = None,
        guard: bool = True,
        threads: int = 1,
    ) -> None:
        if options is None:
            options = LIVE_OPTIONS
        if not isinstance(options, camera.PathOptions):
            raise ArgumentError(f"options: expected a legato.camera.PathOptions, got {shown(options)}")
        self._interpolation = as_choice("interpolation", interpolation, INTERPOLATIONS)
        self._options = options.at_frame_rate(fps)
        self._tracker = Tracker(size, mask=mask)
        self._path = camera.LivePath(self._tracker.size, self._options, latency_frames=latency_frames)
        self._window = camera.crop_map(self._tracker.size, self._options)
        self._threads = as_threads(threads)
        self._turns = Turns()
        self._guarded, self._rate = as_flag("guard", guard), fps
        self._guard = LiveGuard(self._tracker.size, fps)
        self._held: deque[tuple[Frame, NDArray[np.float32] | None]] = deque()  # with the traces of their points
        self._points: NDArray[np.float32] | None = None  # of the newest motion
        self._before: NDArray[np.uint8] | None = None  # the luma of the newest picture
        self._scene: NDArray[np.float32] | None = None  # how it looked before its motion could not be measured
        self.frames = self.failed = self.duplicates = self.cuts = self.rested = 0
        self.corrections: Floats = np.empty((0, 3, 3))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        return self._tracker.size

    @property
    def latency_frames(self) -> int:
        """Pictures that follow a picture before it comes out."""
        return self._path.latency_frames

    @property
    @one_at_a_time
    def pending_frames(self) -> int:
        """Pictures pushed that have not come out."""
        return len(self._held)

    @one_at_a_time
    def push(self, frame: FrameT, *, cut: bool = False) -> list[FrameT]:
        """Take the next picture; return the one whose time has come.

        Parameters
        ----------
        frame : (h, w, 3) uint8 array, (h, w) uint8 or uint16 array, Planes, VideoFrame or av.VideoFrame
            Packed BGR (or RGB: the order is kept), gray or planar YUV. A `VideoFrame` and PyAV's take timestamp and all
            else through unchanged, PyAV's its format as well (but no transparency). A picture in memory that may be
            written is copied, so the caller may use its buffer again; one in read-only memory, as `VideoReader` gives,
            is kept as it is.
        cut : bool
            The picture begins another scene. Cuts are also recognized: the motion cannot be measured and the pictures
            do not resemble each other.

        Returns
        -------
        list of one frame of the kind that was pushed, or empty
            Empty for the first `latency_frames` pictures.

        Raises
        ------
        ArgumentError
            If the frame is no picture or has another size. It then counts as not pushed.

        See Also
        --------
        Stabilizer.flush : Return the pictures that are still held; the next push begins another clip.
        """
        brightness, cut = luma(picture_of(frame)), as_flag("cut", cut)
        size = brightness.shape[1], brightness.shape[0]
        if size != self.size:
            raise ArgumentError(
                "frame: expected {}x{} pixels as the first, got {}x{}; a new size needs a new Stabilizer".format(
                    *self.size, *size
                )
            )
        if cut:
            self._tracker.reset()
        motion = self._tracker.push(brightness)
        points, self._points = self._points, None if motion is None else motion.points
        traced = None if points is None or motion is None else traces(points, motion.points, size)
        known: Floats | None = None
        if motion is not None and motion.ok:
            known = motion.homography
            self.duplicates += motion.duplicate
        elif motion is not None:
            cut = cut or not self._continues(brightness)
            self.failed += not cut
        final = self._path.push(known, cut=cut)
        self.cuts += cut and self.frames > 0
        if cut:
            self._scene = None
        self.frames += 1
        own = owned(frame)
        self._before = brightness if brightness.base is None else luma(picture_of(own))  # never the caller's memory
        self._held.append((own, traced))
        return cast("list[FrameT]", self._drawn(final))

    def _continues(self, brightness: NDArray[np.uint8]) -> bool:
        """Whether a picture may be of the same scene as those before, though its motion could not be measured."""
        assert self._before is not None
        before, after = _glance(self._before), _glance(brightness)
        if before.std() >= _GLANCE_CONTRAST:
            self._scene = before
        # A flat picture, as of a covered lens or between two scenes, tells nothing; the next may.
        return self._scene is None or after.std() < _GLANCE_CONTRAST or _alike(self._scene, after)

    @one_at_a_time
    def flush(self) -> list[Frame]:
        """Return the pictures that are still held; the next push begins another clip.

        See Also
        --------
        Stabilizer.push : Take the next picture; return the one whose time has come.
        """
        self._tracker.reset()
        self._before = self._scene = self._points = None
        out = self._drawn(self._path.finish())
        self._guard = LiveGuard(self.size, self._rate)
        return out

    def _drawn(self, window: Floats) -> list[Frame]:
        if len(window):
            window = camera.contain(window, self.size, self._options)
        self.corrections = window @ self._window
        out: list[Frame] = []
        for correction in self.corrections:
            frame, traced = self._held.popleft()
            share = self._guard.push(traced, correction.copy()) if self._guarded else 0.0
            if share > 0:
                correction[:] = (1 - share) * correction / correction[2, 2] + share * np.eye(3)
                self.rested += share >= 0.5
            steady = warp(picture_of(frame), correction, interpolation=self._interpolation, threads=self._threads)
            out.append(redrawn(frame, steady))
        return out


def _glance(brightness: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce a picture to so few samples that only its scene can be told."""
    height, width = brightness.shape
    columns, rows = _GLANCE
    # Four samples a cell each way, where there are so many: enough for a mean, and far cheaper than all of them.
    x = np.linspace(0, width - 1, 4 * columns).astype(np.intp)
    y = np.linspace(0, height - 1, 4 * rows).astype(np.intp)
    samples = brightness[y[:, None], x].astype(np.float32)
    return np.asarray(samples.reshape(rows, 4, columns, 4).mean((1, 3)), np.float32)


def _alike(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether two glances may show one scene, the camera having moved a little."""
    reach = _GLANCE_SHIFT
    rows, columns = before.shape
    middle = after[reach:-reach, reach:-reach]
    middle = middle - middle.mean()
    norm = np.sqrt((middle**2).sum())
    for y in range(2 * reach + 1):
        for x in range(2 * reach + 1):
            part = before[y : y + rows - 2 * reach, x : x + columns - 2 * reach]
            part = part - part.mean()
            if float((part * middle).sum()) >= _ALIKE * float(norm * np.sqrt((part**2).sum())):
                return True
    return False
