"""Camera paths for live pictures: one correction a frame, after a fixed number of frames (beyond the paper)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from legato import _core, _dispatch
from legato._arrays import Float64, as_float64
from legato._dispatch import Backend
from legato._scalars import as_choice, as_count, as_flag
from legato._turns import Turns, one_at_a_time
from legato.camera import _reference
from legato.camera.frames import fill_motion
from legato.camera.homographies import exp_homography, log_homography, to_pixel_units, to_width_units
from legato.camera.options import UNITS, PathOptions, Units, check_options
from legato.camera.problem import Frames, Task, check_task, core_options, solve_frames
from legato.errors import HomographyError, InfeasibleError

__all__ = ["LivePath"]

_PINNED = 3  # derivatives reach three frames back, so three pinned frames stand for the whole past
_PREDICTED = 15
_LONGEST_LATENCY, _MOST_PREDICTED = 2**24 - 1, 1000  # of the compiled path, which lays out its memory beforehand
# The motion ahead, by an autoregressive model of the last two seconds at 30 frames a second. Against the mean of the
# last ten motions, decaying, it takes the jitter from 0.48 to 0.29 of the input's without look-ahead (geometric mean of
# five shaky clips), from 0.17 to 0.13 with three frames; from ten frames on the two are alike.
_ORDER = 8
_LEARNED = 60
_RIDGE = 0.05  # of the mean square, for each motion learned from
_LEAST_LEARNED = 12  # with fewer, the mean of these, decaying
_DECAY = 0.9


class LivePath:
    """A camera path with a fixed delay, for pictures that are shown while they are filmed.

    Every push solves one window anew: the last three corrections that were given out, held; the frames whose
    corrections are still open, the newest included; and predicted frames after them. The first open correction is then
    final. So frame t comes out in the push of frame ``t + latency_frames``, exactly one a push, and each push costs
    the same: a solve of ``latency_frames + 4`` frames and the predicted ones.

    Where held corrections and a wild motion leave no path, the window is solved as if the camera stood still; where
    that has none either, its frames are not corrected.

    A scene that ends (`finish`, or ``cut`` in a push) is solved to its end at once, without prediction; what a cut
    makes final waits for its turn. The path depends on nothing but the pushes.

    Parameters
    ----------
    size : (width, height)
    options : PathOptions, optional
        A keystone ratio to be estimated is estimated from the scene so far.
    latency_frames : int
        Frames that follow a frame before its correction comes out, from 0 up.
    units : {"pixel", "width"}
    predicted : int
        Motions appended to the newest; shake has a rhythm, so an autoregressive model of the last sixty tells them.
    backend : {"native", "numpy"}, optional

    See Also
    --------
    PathStream : A camera path while the motion is still coming in.
    smooth_path : Find the L1-optimal camera path of a clip.

    Examples
    --------
    >>> import numpy as np
    >>> from legato import camera
    >>> path = camera.LivePath((640, 360), latency_frames=2)
    >>> [len(path.push(np.eye(3))) for _ in range(5)], len(path.finish())
    ([0, 0, 1, 1, 1], 2)
    """

    def __init__(
        self,
        size: tuple[int, int],
        options: PathOptions | None = None,
        *,
        latency_frames: int = 30,
        units: Units = "pixel",
        predicted: int = _PREDICTED,
        backend: Backend | None = None,
    ) -> None:
        options = check_options(options)
        self._task = check_task(size, options, None, 0.0, "banded", _dispatch.choose(backend))
        self._latency = as_count("latency_frames", latency_frames, 0, _LONGEST_LATENCY)
        predicted = as_count("predicted", predicted, 0, _MOST_PREDICTED)
        self._units = as_choice("units", units, UNITS)
        self._turns = Turns()
        self._line: _Line | _core.CameraLivePath
        if self._task.backend == "native":
            native = core_options(self._task, options.keystone_ratio)
            self._line = _core.CameraLivePath(native, self._task.aspect, self._latency, predicted)
        else:
            self._line = _Line(self._task, self._latency, predicted)

    @property
    def options(self) -> PathOptions:
        """Of all that is not final yet. They may be set: the path goes over to the new ones from where it is."""
        return self._task.options

    @options.setter
    @one_at_a_time
    def options(self, options: PathOptions) -> None:
        task = self._task
        self._task = check_task(task.size, check_options(options), None, 0.0, "banded", task.backend)
        if isinstance(self._line, _Line):
            self._line.task = self._task
        else:
            self._line.set_options(core_options(self._task, options.keystone_ratio))

    @property
    def latency_frames(self) -> int:
        """Frames that follow a frame before its correction comes out."""
        return self._latency

    @property
    @one_at_a_time
    def pending_frames(self) -> int:
        """Frames pushed whose corrections have not come out."""
        return self._line.pending

    @one_at_a_time
    def push(self, motion: ArrayLike | None, *, cut: bool = False) -> Float64:
        """Take a frame; return the correction of the frame `latency_frames` before it, once there is one.

        Parameters
        ----------
        motion : array_like, shape (3, 3), or None
            This frame to the one before; not read for a scene's first frame. ``None``: not known. It is interpolated
            between its neighbors where its correction is still open when the next one comes, and predicted until then.
        cut : bool
            A new scene starts with this frame: nothing is smoothed across.

        Returns
        -------
        ndarray, shape (0, 3, 3) or (1, 3, 3)

        Raises
        ------
        ArgumentError
            The motion has another shape.
        HomographyError
            The motion is not finite, singular, or without a principal logarithm; the frame then counts as not pushed.

        See Also
        --------
        LivePath.finish : End the scene: return the remaining corrections. The path then waits for a new clip.
        """
        if motion is not None:
            motion = as_float64("motion", motion, (3, 3))
            if self._units == "pixel":
                motion = to_width_units(motion, self._task.size)
        return self._out(self._line.push(motion, as_flag("cut", cut)))

    @one_at_a_time
    def finish(self) -> Float64:
        """End the scene: return the remaining corrections. The path then waits for a new clip.

        See Also
        --------
        LivePath.push : Take a frame; return the correction of the frame `latency_frames` before it, once there is one.
        """
        return self._out(self._line.finish())

    def _out(self, corrections: Float64) -> Float64:
        return to_pixel_units(corrections, self._task.size) if self._units == "pixel" else corrections


class _Line:
    """What the compiled path does, in NumPy and in frame widths (`legato::camera::LivePath`)."""

    def __init__(self, task: Task, latency: int, predicted: int) -> None:
        self.task, self._latency, self._predicted = task, latency, predicted
        self._frames = 0  # pushed
        self._ready: deque[Float64] = deque()  # final corrections that wait for their turn
        self._start_scene()

    def _start_scene(self) -> None:
        self._motion: deque[Float64] = deque()  # of the held and the open frames
        self._good: deque[bool] = deque()
        self._held: deque[Float64] = deque(maxlen=_PINNED)
        self._recent: deque[Float64] = deque(maxlen=_LEARNED)  # logarithms of the newest known motions
        self._before: tuple[int, Float64] | None = None  # last known motion before those kept: distance, logarithm
        self._products = [0.0, 0.0]  # sums of k t and t t over the scene: the keystone ratio

    @property
    def pending(self) -> int:
        return self._open + len(self._ready)

    @property
    def _open(self) -> int:
        return len(self._motion) - len(self._held)

    def push(self, motion: Float64 | None, cut: bool) -> Float64:
        known, log = np.eye(3), None
        if motion is not None and self._motion and not cut:
            known, log = motion, log_homography(motion).ravel()
        if cut:
            self._end_scene()
        if log is not None:
            self._recent.append(log)
            self._products[0] += float(log[6] * log[2]) + float(log[7] * log[5])
            self._products[1] += float(log[2] * log[2]) + float(log[5] * log[5])
        self._motion.append(known)
        self._good.append(log is not None)
        self._frames += 1
        if self._open > self._latency:
            self._commit(self._solved(last=False)[0])
        out = [self._ready.popleft()] if self._frames > self._latency else []
        return np.array(out).reshape(-1, 3, 3)

    def finish(self) -> Float64:
        self._end_scene()
        out = np.array(self._ready).reshape(-1, 3, 3)
        self._ready.clear()
        self._frames = 0
        return out

    def _end_scene(self) -> None:
        if self._open:
            self._ready.extend(self._solved(last=True))
        self._start_scene()

    def _commit(self, correction: Float64) -> None:
        self._ready.append(correction)
        if len(self._held) == _PINNED:
            motion, good = self._motion.popleft(), self._good.popleft()
            if good:
                self._before = 1, log_homography(motion).ravel()
            elif self._before is not None:
                self._before = self._before[0] + 1, self._before[1]
        self._held.append(correction)

    def _window(self, good: NDArray[np.bool_], last: bool) -> Float64:
        """Give the motion of the kept frames and, where the scene goes on, of those ahead."""
        motion = fill_motion(np.array(self._motion), good, self._before)
        if last:
            return motion
        # What is not known at the end is ahead of what is known, as the frames that were not filmed yet.
        since = int(np.argmax(good[::-1])) if good.any() else len(good)
        gone = self._before[0] - 1 if self._before is not None and not good.any() else 0
        if gone > _LEARNED:  # too long ago to say anything
            self._recent.clear()
            gone = 0
        ahead = exp_homography(_continued(self._recent, gone + since + self._predicted)[gone:])
        return np.concatenate([motion[: len(motion) - since], ahead])

    def _solved(self, last: bool) -> Float64:
        """Solve the window; return the corrections of its open frames."""
        good, held = np.array(self._good), np.array(self._held).reshape(-1, 3, 3)
        n = len(good) + (0 if last else self._predicted)
        try:
            motion = self._window(good, last)
        except HomographyError:
            motion = np.tile(np.eye(3), (n, 1, 1))
        ratio = self.task.options.keystone_ratio
        if ratio is None:
            kt, tt = self._products
            ratio = float(np.clip(kt / tt, -3.0, -0.3)) if tt > 0 else _reference.NO_RATIO
        # Held corrections and wild motions, predicted ones too, may leave no path: then as if the camera stood still.
        still = np.concatenate([motion[: len(held)], np.tile(np.eye(3), (n - len(held), 1, 1))])
        for tried in (motion, still):
            frames = Frames(tried, np.empty(0), np.empty((n, 0, 2)), np.empty((0, 2)))
            try:
                return solve_frames(frames, self.task, ratio, held, 0, len(good)).corrections[len(held) :]
            except (InfeasibleError, HomographyError):
                pass
        return np.tile(np.eye(3), (len(good) - len(held), 1, 1))  # no correction at all


def _continued(recent: Sequence[Float64], count: int) -> Float64:
    """Logarithms of the next motions, (count, 3, 3), each entry by a model of its own.

    Sums run from the oldest motion to the newest, and nothing is left to BLAS, so that the compiled path has the same
    bits.
    """
    if not len(recent):
        return np.zeros((count, 3, 3))
    seen = np.array(recent)
    known = len(seen) - _ORDER
    if len(seen) < _LEAST_LEARNED:
        mean = sum(seen) / len(seen)
        return np.asarray(mean * np.cumprod(np.full(count, _DECAY))[:, None]).reshape(count, 3, 3)
    power = np.asarray(sum(seen**2)) / len(seen)
    normal, model = np.zeros((_ORDER, _ORDER, 9)), np.zeros((_ORDER, 9))
    for t in range(known):
        past = seen[t : t + _ORDER]
        normal += past[:, None] * past
        model += past * seen[t + _ORDER]
    normal[np.diag_indices(_ORDER)] += _RIDGE * known * power + np.finfo(float).tiny
    for j in range(_ORDER):  # elimination: the matrix is positive definite
        for i in range(j + 1, _ORDER):
            factor = normal[i, j] / normal[j, j]
            normal[i] -= factor * normal[j]
            model[i] -= factor * model[j]
    for j in reversed(range(_ORDER)):
        model[j] /= normal[j, j]
        model[:j] -= normal[:j, j] * model[j]
    # A model that is not stable must not run away.
    most = 3 * np.sqrt(power)
    out = np.concatenate([seen[-_ORDER:], np.zeros((count, 9))])
    for t in range(count):
        ahead = np.asarray(sum(model * out[t : t + _ORDER]))
        out[_ORDER + t] = np.where(ahead > most, most, np.where(ahead < -most, -most, ahead))
    return out[_ORDER:].reshape(count, 3, 3)
