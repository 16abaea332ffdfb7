"""Shaky clips whose true camera motion is known, drawn and filmed by this module alone.

Three parts that can be used by themselves: `scenery.render_scene` draws a town by a river, `camera_path`
says how a hand-held camera turns in front of it, and `synthesize` films the one along the other.
The camera is a pin-hole that only rotates and zooms, so with the scene taken as a plane every frame
is an exact homography of the picture, and so is the motion from frame to frame.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from legato._files import DAMAGED_ARCHIVE, PendingFile
from legato._scalars import as_choice, as_count, as_number
from legato.errors import ArgumentError, InputError, OutputError
from legato.video.media.decoding import load_av
from legato.video.media.planes import load_opencv
from legato.video.progress import Progress, told
from legato.video.synthetic import KINDS, Kind
from legato.video.synthetic.scenery import checked_size, draw_ferry, render_scene

__all__ = ["CameraPath", "GroundTruth", "Kind", "camera_path", "synthesize"]

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.uint8]


class _Shake(NamedTuple):
    """What one kind of clip is made of: angles in degrees."""

    tremor: float  # root mean square, 8 to 12 Hz
    bob: float  # amplitude of the steps
    drift: float  # root mean square, 0.2 to 2 Hz
    pan: float  # intended turn over the clip
    tilt: float
    zoom: float  # focal length at the end over that at the beginning


_KINDS: dict[Kind, _Shake] = {
    "still": _Shake(0.06, 0.0, 0.13, 0, 0, 1.0),
    "walk": _Shake(0.06, 0.55, 0.22, 6, 1, 1.0),
    "pan": _Shake(0.06, 0.10, 0.18, 16, 2, 1.0),
    "run": _Shake(0.15, 1.60, 0.40, 6, 1, 1.0),
    "zoom": _Shake(0.08, 0.10, 0.18, 3, 1, 1.35),
}
_TREMOR_HZ = (8.0, 12.0)
_DRIFT_HZ = (0.2, 2.0)
_STEP_HZ = 1.9
_SAMPLES_PER_FRAME = 8  # of the path, for rolling shutter and motion blur

_FIELD_OF_VIEW = math.radians(55)  # across the width, without zoom
# The scene measures this many frames each way, and has this many pixels to one of the frame, unless
# the path needs more room: finer than the frame, so that sampling it does not alias.
_SCENE_FRAMES = 2.0
_SCENE_DENSITY = 1.5
_ROOM = 1.02
_MOST_PIXELS = 36_000_000  # of the scene: above 1440p it is less dense

_STRIPS = 24  # of rows that share a time, interpolated between, with rolling shutter
_EXPOSURES = 5  # averaged for motion blur
_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_LEAST_SIDE, _MOST_SIDE = 32, 4096
_SAMPLE_RATE = 48_000
_AAC_BLOCK = 1024
_MATRIX_601, _LIMITED_RANGE = 6, 1  # as ITU-T H.273 and FFmpeg number them


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The true camera motion of a synthesized clip of n frames.

    Attributes
    ----------
    camera_to_scene : (n, 3, 3) float64 array
        Maps pixel coordinates of frame t, as filmed, to pixels of the scene; pixel centers at
        integers. With rolling shutter: of the middle row.
    intended_to_scene : (n, 3, 3) float64 array
        The same for the steady camera that was meant.
    size : (int, int)
        Width and height of the frames, in pixels.
    fps : float
        Frames per second.

    See Also
    --------
    synthesize : Film a drawn town with a shaking camera whose motion is known.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=3)
    >>> truth.camera_to_scene.shape, truth.size
    ((3, 3, 3), (160, 120))
    >>> truth.save("truth.npz")
    """

    camera_to_scene: Floats
    intended_to_scene: Floats
    size: tuple[int, int]
    fps: float

    def __post_init__(self) -> None:
        for name in ("camera_to_scene", "intended_to_scene"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.ndim != 3 or value.shape[1:] != (3, 3):
                raise ArgumentError(f"{name}: expected an array of shape (n, 3, 3)")
        if self.camera_to_scene.shape != self.intended_to_scene.shape:
            raise ArgumentError(
                f"intended_to_scene: expected shape {self.camera_to_scene.shape} as "
                f"camera_to_scene has, got {self.intended_to_scene.shape}"
            )

    @property
    def motion(self) -> Floats:
        """(n, 3, 3) homographies from frame t to frame t - 1 in pixels; the first is the identity."""
        return _steps(self.camera_to_scene)

    @property
    def intended_motion(self) -> Floats:
        """(n, 3, 3) homographies from frame t to frame t - 1 of the steady camera, in pixels."""
        return _steps(self.intended_to_scene)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a NumPy .npz file, whole or not at all.

        Raises
        ------
        OutputError
            If the file cannot be written.

        See Also
        --------
        synthesize : Film a drawn town with a shaking camera whose motion is known.
        """
        with PendingFile(path) as pending:
            with pending.opened() as file:
                np.savez_compressed(
                    file,
                    camera_to_scene=self.camera_to_scene,
                    intended_to_scene=self.intended_to_scene,
                    size=np.array(self.size),
                    fps=np.array(self.fps),
                )
            pending.commit()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GroundTruth:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file cannot be read or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                width, height = (int(side) for side in data["size"])
                return cls(
                    np.asarray(data["camera_to_scene"], np.float64),
                    np.asarray(data["intended_to_scene"], np.float64),
                    (width, height),
                    float(data["fps"]),
                )
        except DAMAGED_ARCHIVE as error:
            raise InputError(f"{os.fspath(path)}: no ground truth can be read from it") from error


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """How a camera turns, sampled evenly in time.

    Attributes
    ----------
    intended, shaken : (m, 4) float64 array
        Yaw, pitch and roll in degrees, and zoom (1 is the field of view of 55 degrees): as meant,
        and as the hand makes it.
    samples_per_frame : int
        Rows to one frame time.
    """

    intended: Floats
    shaken: Floats
    samples_per_frame: int

    def at(self, frame: float, *, shaken: bool = True) -> Floats:
        """Give yaw, pitch, roll and zoom at a time in frames, (4,); times beyond the ends hold."""
        poses = self.shaken if shaken else self.intended
        position = min(max(frame * self.samples_per_frame, 0.0), len(poses) - 1.0)
        before = min(int(position), len(poses) - 2)
        weight = position - before
        return np.asarray((1 - weight) * poses[before] + weight * poses[before + 1])


def synthesize(
    path: str | os.PathLike[str],
    *,
    kind: Kind = "walk",
    seed: int = 1,
    size: tuple[int, int] = (640, 360),
    frames: int = 240,
    fps: float = 30.0,
    rolling_shutter: float = 0.0,
    motion_blur: float = 0.0,
    noise: float = 2.0,
    foreground: bool = False,
    audio: bool = False,
    progress: bool | Progress = False,
) -> GroundTruth:
    """Film a drawn town with a shaking camera whose motion is known.

    The same arguments give the same pictures. The file is H.264 (CRF 17, 4:2:0); it appears under
    its name when it is complete.

    Parameters
    ----------
    path : str or path
        File to write: .mp4, .m4v, .mov or .mkv. An existing file is replaced.
    kind : {"still", "walk", "pan", "run", "zoom"}
        What the holder of the camera does.
    seed : int
        Of the town, the shake and the noise; not negative.
    size : (int, int)
        Width and height in pixels: even, 32 to 4096, one at most four times the other.
    frames : int
        Length of the clip.
    fps : float
        Frames per second, 1 to 240.
    rolling_shutter : float
        Time from reading the first row to reading the last, in frame times: 0 to 1.
    motion_blur : float
        Time the shutter is open, in frame times: 0 to 1.
    noise : float
        Standard deviation of the sensor noise, in gray levels of 255: 0 to 50.
    foreground : bool
        Let a ferry pass in front of the town, with a motion of its own.
    audio : bool
        Add sound: steps, the river and a chord, AAC.
    progress : bool or callable
        Show a bar on stderr, or call this with the stage ("draw"), the frames done and the frames in all.

    Returns
    -------
    GroundTruth
        The motion of the camera, frame by frame.

    Raises
    ------
    ArgumentError
        If an argument is not as described.
    OutputError
        If the file cannot be written.
    DependencyError
        If PyAV or OpenCV is not installed.

    See Also
    --------
    GroundTruth : The true camera motion of a synthesized clip of n frames.
    stabilize : Turn a shaky video into a steady one; keep its sound, timestamps, rotation and colour tags.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", kind="pan", size=(160, 120), frames=3)
    >>> truth.intended_to_scene.shape
    (3, 3, 3)
    """
    film = _Film.of(
        kind=kind,
        seed=seed,
        size=size,
        frames=frames,
        fps=fps,
        rolling_shutter=rolling_shutter,
        motion_blur=motion_blur,
        noise=noise,
        foreground=foreground,
    )
    suffix = Path(path).suffix.lower()
    if suffix not in _MUXERS:
        raise ArgumentError(f"path: expected a name ending in {', '.join(_MUXERS)}, got {path}")
    load_opencv()
    av = load_av()
    sound = _sound(film) if audio else None
    with PendingFile(path) as pending:
        try:
            _write(av, pending.path, _MUXERS[suffix], film, sound, progress)
        except av.error.FFmpegError as error:
            raise OutputError(f"{os.fspath(path)}: cannot be written ({error.strerror})") from error
        pending.commit()
    return film.truth


def camera_path(kind: Kind = "walk", *, seed: int = 1, frames: int = 240, fps: float = 30.0) -> CameraPath:
    """Turn a camera as a person does who holds it.

    The intended pan, tilt and zoom follow a curve with continuous second derivative. On top come a
    tremor of 8 to 12 Hz, a slow drift of 0.2 to 2 Hz and, while walking, the bob of the steps at
    1.9 Hz with two harmonics and a sway at half that rate.

    Parameters
    ----------
    kind : {"still", "walk", "pan", "run", "zoom"}
        What the holder of the camera does.
    seed : int
        Of the shake; not negative.
    frames : int
        Length in frames.
    fps : float
        Frames per second, 1 to 240.

    Returns
    -------
    CameraPath
        The poses of the camera over time.

    Raises
    ------
    ArgumentError
        If an argument is not as described.
    """
    kind = as_choice("kind", kind, KINDS)
    seed, frames = as_count("seed", seed, 0, 2**64 - 1), as_count("frames", frames)
    _check_number("fps", fps, 1, 240)
    shake = _KINDS[kind]
    rng = np.random.default_rng([seed, 1])
    count = frames * _SAMPLES_PER_FRAME
    rate = fps * _SAMPLES_PER_FRAME
    time = np.arange(count) / rate
    share = np.linspace(0, 1, count)
    ease = share**3 * (share * (6 * share - 15) + 10)
    intended = np.zeros((count, 4))
    intended[:, 0] = shake.pan * (ease - 0.5)
    intended[:, 1] = shake.tilt * np.sin(np.pi * share) ** 2
    intended[:, 3] = 1 + (shake.zoom - 1) * ease
    shaken = intended.copy()
    for axis, gain in enumerate((1.0, 1.0, 0.6)):
        shaken[:, axis] += gain * shake.tremor * _band_noise(rng, count, rate, _TREMOR_HZ)
        shaken[:, axis] += gain * shake.drift * _band_noise(rng, count, rate, _DRIFT_HZ)
    phase = rng.uniform(0, 2 * np.pi, 3)
    step = 2 * np.pi * _STEP_HZ * time
    shaken[:, 1] += shake.bob * (np.sin(step) + 0.35 * np.sin(2 * step + phase[0]) + 0.12 * np.sin(3 * step + phase[1]))
    shaken[:, 0] += 0.6 * shake.bob * np.sin(step / 2 + phase[2])
    shaken[:, 2] += 0.45 * shake.bob * np.sin(step / 2 + phase[2] + 0.8)
    return CameraPath(intended, shaken, _SAMPLES_PER_FRAME)


def _band_noise(rng: np.random.Generator, count: int, rate: float, band: tuple[float, float]) -> Floats:
    """Draw noise of one root mean square with all its power between two frequencies."""
    frequency = np.fft.rfftfreq(count, 1 / rate)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    # A clip may be too short for a whole period of the band: then the nearest one it has.
    if not inside[1:].any():
        inside[1 + np.argmin(np.abs(frequency[1:] - np.mean(band)))] = True
    inside[0] = False
    spectrum = inside * (rng.standard_normal(len(frequency)) + 1j * rng.standard_normal(len(frequency)))
    wave = np.fft.irfft(spectrum, count)
    return np.asarray(wave / max(float(wave.std()), 1e-12))


@dataclass(frozen=True, slots=True, eq=False)
class _Film:
    """Everything that decides the pictures of a clip."""

    kind: Kind
    path: CameraPath
    size: tuple[int, int]
    scene_size: tuple[int, int]
    density: float
    frames: int
    fps: float
    seed: int
    rolling_shutter: float
    motion_blur: float
    noise: float
    foreground: bool

    @classmethod
    def of(
        cls,
        *,
        kind: Kind,
        seed: int,
        size: tuple[int, int],
        frames: int,
        fps: float,
        rolling_shutter: float = 0.0,
        motion_blur: float = 0.0,
        noise: float = 0.0,
        foreground: bool = False,
    ) -> _Film:
        path = camera_path(kind, seed=seed, frames=frames, fps=fps)
        size = checked_size(size, _LEAST_SIDE, _MOST_SIDE)
        if size[0] % 2 or size[1] % 2:
            raise ArgumentError(f"size: expected even width and height for 4:2:0, got {size}")
        _check_number("rolling_shutter", rolling_shutter, 0, 1)
        _check_number("motion_blur", motion_blur, 0, 1)
        _check_number("noise", noise, 0, 50)
        density = min(_SCENE_DENSITY, math.sqrt(_MOST_PIXELS / (size[0] * size[1])) / _SCENE_FRAMES)
        scene_size = tuple(round(_SCENE_FRAMES * density * side) for side in size)
        # As dense as the scene can be and still hold the whole path.
        w, h = size
        edge = np.array([[0, w - 1, w - 1, 0], [0, 0, h - 1, h - 1], [1, 1, 1, 1]], np.float64)
        reach = np.stack([_turned(pose, size) @ edge for pose in (*path.shaken, *path.intended)])
        reach = np.abs(reach[:, :2] / reach[:, 2:]).max(axis=(0, 2))
        room = 0.5 * (np.array(scene_size) - 1) / (_ROOM * reach)
        return cls(
            kind,
            path,
            size,
            (int(scene_size[0]), int(scene_size[1])),
            min(density, float(room.min())),
            int(frames),
            float(fps),
            int(seed),
            float(rolling_shutter),
            float(motion_blur),
            float(noise),
            bool(foreground),
        )

    def to_scene(self, frame: float, *, shaken: bool = True) -> Floats:
        """Give the matrix from pixels of the picture taken at a time in frames to pixels of the scene."""
        w, h = self.scene_size
        place = np.array([[self.density, 0, 0.5 * (w - 1)], [0, self.density, 0.5 * (h - 1)], [0, 0, 1]])
        matrix = place @ _turned(self.path.at(frame, shaken=shaken), self.size)
        return np.asarray(matrix / matrix[2, 2])

    @property
    def truth(self) -> GroundTruth:
        """The matrices of the middle row of each frame."""
        times = [frame + 0.5 * self.rolling_shutter for frame in range(self.frames)]
        return GroundTruth(
            np.array([self.to_scene(time) for time in times]),
            np.array([self.to_scene(time, shaken=False) for time in times]),
            self.size,
            self.fps,
        )

    def pictures(self) -> Iterator[Image]:
        """Film: BGR pictures, (h, w, 3) uint8."""
        cv2 = load_opencv()
        scene = render_scene(self.seed, self.scene_size)
        ferry = draw_ferry(self.seed, self.scene_size) if self.foreground else None
        grain = _Grain(self.seed, self.size, self.noise)
        exposures = _EXPOSURES if self.motion_blur > 0 else 1
        for frame in range(self.frames):
            view = scene if ferry is None else ferry.before(scene, frame / self.fps)
            total = np.zeros((self.size[1], self.size[0], 3), np.float32)
            for shot in range(exposures):
                late = self.motion_blur * (shot / (exposures - 1) - 0.5) if exposures > 1 else 0.0
                picture = self._exposed(view, frame + late)
                if exposures == 1:
                    break
                cv2.accumulate(picture, total)
            if exposures > 1:
                picture = cv2.convertScaleAbs(total, alpha=1 / exposures)
            yield grain.on(picture, frame)

    def _exposed(self, view: Image, time: float) -> Image:
        """Take one instant of the shutter, row by row if it rolls."""
        cv2 = load_opencv()
        if self.rolling_shutter == 0:
            return np.asarray(
                cv2.warpPerspective(
                    view,
                    self.to_scene(time),
                    self.size,
                    flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_REFLECT,
                )
            )
        w, h = self.size
        knots = np.linspace(0, 1, _STRIPS + 1)
        known = np.stack([self.to_scene(time + self.rolling_shutter * knot) for knot in knots])
        row = np.linspace(0, 1, h)
        entries = known.reshape(-1, 9).T
        matrix = np.stack([np.interp(row, knots, entry) for entry in entries], 1).reshape(h, 3, 3)
        y = np.arange(h, dtype=np.float64)
        # Along a row x alone changes: M (x, y, 1) = M_0 x + (M_1 y + M_2).
        rest = matrix[:, :, 1] * y[:, None] + matrix[:, :, 2]
        x = np.arange(w, dtype=np.float64)
        mapped = matrix[:, :, :1] * x + rest[:, :, None]
        across = (mapped[:, 0] / mapped[:, 2]).astype(np.float32)
        down = (mapped[:, 1] / mapped[:, 2]).astype(np.float32)
        return np.asarray(cv2.remap(view, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))


def _turned(pose: Floats, size: tuple[int, int]) -> Floats:
    """Give the matrix from pixels to the picture plane of a camera that looks straight ahead, in pixels."""
    w, h = size
    focal = 0.5 * w / math.tan(0.5 * _FIELD_OF_VIEW)
    yaw, pitch, roll = np.radians(pose[:3])
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    to_ray = np.array(
        [
            [1 / (focal * pose[3]), 0, -0.5 * (w - 1) / (focal * pose[3])],
            [0, 1 / (focal * pose[3]), -0.5 * (h - 1) / (focal * pose[3])],
            [0, 0, 1],
        ]
    )
    return np.asarray(np.diag([focal, focal, 1]) @ about_y @ about_x @ about_z @ to_ray)


class _Grain:
    """Sensor noise: new for each frame, from a stock drawn once."""

    def __init__(self, seed: int, size: tuple[int, int], sigma: float) -> None:
        self._sigma = sigma
        self._size = size
        self._seed = seed
        if sigma > 0:
            rng = np.random.default_rng([seed, 2])
            w, h = size
            stock = rng.standard_normal((h + 64, w + 64, 3), np.float32) * sigma
            self._stock = np.clip(np.rint(stock), -127, 127).astype(np.int16)

    def on(self, picture: Image, frame: int) -> Image:
        if self._sigma == 0:
            return picture
        w, h = self._size
        rng = np.random.default_rng([self._seed, 3, frame])
        top, left, flip = (int(value) for value in rng.integers(0, (64, 64, 4)))
        grain = self._stock[top : top + h, left : left + w]
        grain = grain[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]
        noisy: Image = np.clip(picture + grain, 0, 255).astype(np.uint8)
        return noisy


def _sound(film: _Film) -> NDArray[np.float32]:
    """Make steps at the rate of the bob, the river, and a chord: (samples, 2), -1 to 1."""
    rng = np.random.default_rng([film.seed, 5])
    length_s = film.frames / film.fps
    count = max(1, round(length_s * _SAMPLE_RATE))
    time = np.arange(count) / _SAMPLE_RATE
    river = np.cumsum(rng.standard_normal((count, 2)), axis=0)
    river -= _running_mean(river, 480)
    river = _running_mean(river, 24)
    sound = 0.05 * river / max(float(river.std()), 1e-9)
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * time / 8)
    for note, pan in ((220.0, 0.4), (277.18, 0.6), (329.63, 0.5), (440.0, 0.45)):
        tone = 0.035 * (0.4 + 0.6 * swell) * np.sin(2 * np.pi * note * time)
        sound += tone[:, None] * np.array([1 - pan, pan])
    if film.kind in ("walk", "run"):
        # A foot meets the ground where the first harmonic of the bob is lowest.
        for place in np.arange(0.75 / _STEP_HZ, length_s, 1 / _STEP_HZ):
            first = int(place * _SAMPLE_RATE)
            length = min(int(0.09 * _SAMPLE_RATE), count - first)
            decay = np.exp(-np.arange(length) / (0.014 * _SAMPLE_RATE))
            step = decay * (
                0.5 * rng.standard_normal(length) + np.sin(2 * np.pi * 95 * np.arange(length) / _SAMPLE_RATE)
            )
            sound[first : first + length] += 0.22 * step[:, None]
    return np.clip(sound, -1, 1).astype(np.float32)


def _running_mean(wave: Floats, width: int) -> Floats:
    total = np.cumsum(np.vstack([np.zeros((1, wave.shape[1])), wave]), axis=0)
    last = np.minimum(np.arange(len(wave)) + width, len(wave))
    first = np.arange(len(wave))
    return np.asarray((total[last] - total[first]) / (last - first)[:, None])


def _write(
    av: Any, path: Path, muxer: str, film: _Film, sound: NDArray[np.float32] | None, progress: bool | Progress
) -> None:
    """Encode a film, and its sound beside it."""
    with told(progress) as tell, av.open(os.fspath(path), "w", format=muxer) as container:
        video = container.add_stream("libx264", rate=Fraction(film.fps).limit_denominator(1001))
        video.width, video.height = film.size
        video.pix_fmt = "yuv420p"
        video.options = {"crf": "17", "preset": "veryfast"}
        # How libx264 divides its work changes the file, so it must not depend on the machine.
        video.codec_context.thread_count = 1
        video.codec_context.colorspace = _MATRIX_601
        video.codec_context.color_range = _LIMITED_RANGE
        track = None
        blocks: Iterator[Any] = iter(())
        if sound is not None:
            track = container.add_stream("aac", rate=_SAMPLE_RATE, layout="stereo")
            track.bit_rate = 96_000
            blocks = _audio_frames(av, sound)
        heard = 0.0
        for index, picture in enumerate(film.pictures()):
            while track is not None and heard <= index / film.fps:
                block = next(blocks, None)
                if block is None:
                    break
                container.mux(track.encode(block))
                heard += block.samples / _SAMPLE_RATE
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = index
            container.mux(video.encode(frame))
            tell("draw", index + 1, film.frames)
        container.mux(video.encode())
        if track is not None:
            for block in blocks:
                container.mux(track.encode(block))
            container.mux(track.encode())


def _audio_frames(av: Any, sound: NDArray[np.float32]) -> Iterator[Any]:
    for start in range(0, len(sound), _AAC_BLOCK):
        samples = np.ascontiguousarray(sound[start : start + _AAC_BLOCK].T)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = _SAMPLE_RATE
        frame.pts = start
        yield frame


def _steps(to_scene: Floats) -> Floats:
    """Go from each frame to the one before it."""
    motion = np.broadcast_to(np.eye(3), to_scene.shape).copy()
    motion[1:] = np.linalg.solve(to_scene[:-1], to_scene[1:])
    return np.asarray(motion / motion[:, 2:, 2:])


def _check_number(name: str, value: object, least: float, most: float) -> None:
    as_number(name, value, least=least, most=most)
