"""Stabilize pictures while they arrive: one in, one out, a fixed number of frames later."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from legato import _core, camera
from legato._scalars import as_choice, as_count, as_flag, as_number, as_size, as_threads, shown
from legato._turns import Turns, one_at_a_time
from legato.camera.problem import check_task, core_options
from legato.errors import ArgumentError
from legato.video.choices import INTERPOLATIONS, Interpolation
from legato.video.media.frames import Frame, owned, picture_of, redrawn
from legato.video.media.planes import luma
from legato.video.motion.tracking import checked_mask
from legato.video.options import Aim
from legato.video.presets import PRESETS, PresetName
from legato.video.warping import warp

__all__ = ["LIVE_OPTIONS", "Stabilizer"]

FrameT = TypeVar("FrameT", bound=Frame)
Floats = NDArray[np.float64]

LIVE_OPTIONS = PRESETS["standard"].live_options()
_LONGEST_LATENCY = 2**24 - 1  # of the compiled plan, which lays out its memory beforehand
_COUNTED = ("frames", "failed", "duplicates", "cuts", "rested")  # as the plan gives them


def live_aim(preset: PresetName, crop: float | None, options: camera.PathOptions | None) -> Aim:
    """Check what path a live video is to aim for."""
    aim = Aim(preset=preset, crop=crop, options=options)
    if aim.pull > 0:
        raise ArgumentError(f"preset: {preset!r} follows a subject, and in a live video there is none")
    return aim


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
    preset : {"standard", "gentle", "smooth", "steady", "full", "tripod"}
        As of `stabilize`, with 0.06 more crop: with the future unknown, a path needs more room than that of a file.
    crop : float, optional
        Share of the field of view that may be given up, between 0 and 1, in place of the preset's (0.18 of "standard").
    options : legato.camera.PathOptions, optional
        In place of the preset's.
    latency_frames : int
        Pictures that follow a picture before it comes out, from 0 up.
    interpolation : {"bilinear", "bicubic", "lanczos"}
        See `warp`.
    mask : (height, width) bool or uint8 array, optional
        Nonzero where motion may be measured (see `Tracker`).
    guard : bool
        Whether pictures that would not become steadier are left as they are.
    strength : float
        Share of the correction that is applied, 0 to 1.
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
        preset: PresetName = "standard",
        crop: float | None = None,
        options: camera.PathOptions | None = None,
        latency_frames: int = 10,
        interpolation: Interpolation = "bicubic",
        mask: NDArray[Any] | None = None,
        guard: bool = True,
        strength: float = 1.0,
        threads: int = 1,
    ) -> None:
        self._size = as_size("size", size)
        self._interpolation = as_choice("interpolation", interpolation, INTERPOLATIONS)
        self._threads = as_threads(threads)
        self._latency = as_count("latency_frames", latency_frames, 0, _LONGEST_LATENCY)
        self._turns = Turns()
        self._fps = fps
        self._options = live_aim(preset, crop, options).live_path_options
        self._strength, self._guarded = strength, guard
        settings = self._settings()
        hidden = np.empty(0, np.uint8)
        if mask is not None:
            hidden = np.ascontiguousarray(checked_mask(mask, self._size) != 0).view(np.uint8)
        self._plan = _core.VideoLivePlan(*self._size, settings[0], settings[1], self._latency, *settings[2:], hidden)
        self._held: deque[Frame] = deque()
        self._counted = self._plan.counts()
        self.frames = self.failed = self.duplicates = self.cuts = self.rested = 0
        self.corrections: Floats = np.empty((0, 3, 3))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        return self._size

    @property
    def latency_frames(self) -> int:
        """Pictures that follow a picture before it comes out."""
        return self._latency

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
        step = brightness.strides[0]
        if brightness.strides[1] != 1 or abs(step) < size[0]:
            brightness = brightness.copy()
        own = owned(frame)
        final = self._plan.push(brightness, cut)
        self._held.append(own)
        return cast("list[FrameT]", self._drawn(final))

    @one_at_a_time
    def flush(self) -> list[Frame]:
        """Return the pictures that are still held; the next push begins another clip.

        See Also
        --------
        Stabilizer.push : Take the next picture; return the one whose time has come.
        """
        return self._drawn(self._plan.flush())

    @one_at_a_time
    def change(
        self,
        *,
        options: camera.PathOptions | None = None,
        fps: float | None = None,
        strength: float | None = None,
        guard: bool | None = None,
    ) -> None:
        """Change settings while pictures arrive; the view goes over to the new ones in a second and a half.

        Parameters
        ----------
        options, fps, strength, guard
            As of the class; None: as before.

        Raises
        ------
        ArgumentError
            If a setting is not as described. The old ones then stay.

        See Also
        --------
        Stabilizer.push : Take the next picture; return the one whose time has come.
        """
        before = self._options, self._fps, self._strength, self._guarded
        given = options, fps, strength, guard
        now = (old if new is None else new for old, new in zip(before, given, strict=True))
        self._options, self._fps, self._strength, self._guarded = now  # type: ignore[assignment]
        try:
            self._plan.change(*self._settings())
        except BaseException:
            self._options, self._fps, self._strength, self._guarded = before
            raise

    def _settings(self) -> tuple[_core.CameraPathOptions, float, float, bool]:
        """Check the settings; give them as the plan takes them."""
        if not isinstance(self._options, camera.PathOptions):
            raise ArgumentError(f"options: expected a legato.camera.PathOptions, got {shown(self._options)}")
        adapted = self._options.at_frame_rate(self._fps)  # which tells of the rate
        check_task(self._size, adapted, None, 0.0, "banded", "native")
        task = check_task(self._size, self._options, None, 0.0, "banded", "native")
        strength = as_number("strength", self._strength, least=0, most=1)
        return (
            core_options(task, self._options.keystone_ratio),
            float(self._fps),
            strength,
            as_flag("guard", self._guarded),
        )

    def _drawn(self, corrections: Floats) -> list[Frame]:
        now = self._plan.counts()
        for name, count, before in zip(_COUNTED, now, self._counted, strict=True):
            setattr(self, name, getattr(self, name) + count - before)
        self._counted = now
        self.corrections = corrections
        out: list[Frame] = []
        for correction in corrections:
            frame = self._held.popleft()
            steady = warp(picture_of(frame), correction, interpolation=self._interpolation, threads=self._threads)
            out.append(redrawn(frame, steady))
        return out
