"""The options of stabilizing, by concern: each is declared once, for Python and for the command.

A record holds what belongs together and checks itself when it is made. The metadata of its fields are the words by
which the command declares them (those of `argparse`; `numbers`: how many, with commas between); a field without is for
Python alone. NumPy is loaded by the checks, not by the declarations: the command begins to decode before.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from legato._extras import install_command
from legato._files import PathLike, check_destinations, checked_path
from legato.errors import ArgumentError, DependencyError
from legato.video.choices import (
    BACKENDS,
    BORDERS,
    INCLUSIONS,
    INTERPOLATIONS,
    LEVELS,
    ROTATIONS,
    Backend,
    Border,
    Inclusion,
    Interpolation,
    Level,
    Rotation,
)
from legato.video.media.decoding import Ahead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from legato import camera
    from legato.video.motion.analysis import Analysis
    from legato.video.motion.subjects import Box
    from legato.video.presets import Preset, PresetName

__all__ = ["RECORDS", "Aim", "Beside", "Estimate", "Options", "Output", "Request"]

_MOST_TURN = 25  # degrees: beyond, no crop lets a picture turn
_PLOT_SUFFIXES = (".svg", ".png", ".pdf")


class Options:
    """Options of one concern."""

    __slots__ = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Take those of this record from the arguments that were given, by name."""
        return cls(**{name: given[name] for name in cls.names() if name in given})

    @classmethod
    def names(cls) -> list[str]:
        """Give the names of the options."""
        return [option.name for option in fields(cls)]  # type: ignore[arg-type]

    def _put(self, **values: object) -> None:
        """Take over what a check made of an option."""
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, eq=False)
class Aim(Options):
    """What path to aim for; see `legato.video.stabilize`."""

    preset: PresetName = field(
        default="standard",
        metadata={
            "metavar": "NAME",
            "help": "gentle, standard, smooth, steady, full, tripod or follow; "
            "pan and walk are standard and smooth (default: %(default)s)",
        },
    )
    crop: float | None = field(
        default=None,
        metadata={
            "type": float,
            "help": "part of the field of view that may be given up, between 0 and 1; more is smoother; "
            "presets have their own (default: 0.12)",
        },
    )
    salient: PathLike | NDArray[Any] | None = field(
        default=None,
        metadata={"type": Path, "metavar": "FILE", "help": "CSV or JSON file of points and boxes to keep in view"},
    )
    guard: bool | None = field(
        default=None,
        metadata={
            "switch": True,
            "help": "leave a clip alone that would not become steadier (default: yes, and exit 1 where another preset, "
            "a crop or a region was asked for)",
        },
    )
    inclusion: Inclusion = field(
        default="soft",
        metadata={
            "choices": INCLUSIONS,
            "help": "keep subject and salient points in view where possible, or fail (default: %(default)s)",
        },
    )
    center: float | None = field(
        default=None,
        metadata={
            "type": float,
            "metavar": "WEIGHT",
            "help": "pull them to the middle (default: 0; 10 in the preset follow)",
        },
    )
    level: Level | None = field(
        default=None,
        metadata={
            "nargs": "?",
            "const": "mean",
            "metavar": "DEGREES",
            "help": "hold the horizon: the roll at its mean, so many degrees clockwise of that, or, with "
            "'orientation', upright by what the motion file tells (give it after OUT)",
        },
    )
    fill: bool | None = field(
        default=None,
        metadata={
            "action": argparse.BooleanOptionalAction,
            "help": "keep 98 %% of the view, and take what a frame lacks of it from its neighbors "
            "(default: only in the preset full)",
        },
    )
    options: camera.PathOptions | None = None

    def __post_init__(self) -> None:
        from legato import camera
        from legato._scalars import as_choice, as_flag, as_number, shown

        preset = self.setting
        if self.options is not None and not isinstance(self.options, camera.PathOptions):
            raise ArgumentError(f"options: expected a legato.camera.PathOptions, got {shown(self.options)}")
        self._cropped(preset.options())
        inclusion = as_choice("inclusion", self.inclusion, INCLUSIONS)
        if self.center is not None:
            self._put(center=as_number("center", self.center, least=0, below=1e12))
        if self.level is not None:
            self._put(level=_as_level(self.level))
        if self.fill is not None:
            self._put(fill=as_flag("fill", self.fill))
        self._put(inclusion=inclusion, guard=None if self.guard is None else as_flag("guard", self.guard))

    @property
    def setting(self) -> Preset:
        """What the preset stands for."""
        from legato.video.presets import preset_named

        return preset_named(self.preset)

    @property
    def pull(self) -> float:
        """Weight that pulls what is to be in view to the center of the picture."""
        return self.setting.center if self.center is None else self.center

    @property
    def window_s(self) -> float | None:
        """Seconds that are planned at once; None: the whole video, whose mean roll is known at its end."""
        return self.setting.window_s if self.level is None else None

    @property
    def asked(self) -> list[str]:
        """What was asked for and is no default."""
        preset = [] if self.preset == "standard" else [f"preset {self.preset}"]
        crop = [] if self.crop is None else [f"crop {self.crop:g}"]
        level = [] if self.level is None else ["level"]
        return [*preset, *crop, *level, *(["options"] if self.options is not None else [])]

    @property
    def filled(self) -> bool:
        """Whether the picture is kept whole."""
        return self.setting.fill if self.fill is None else self.fill

    @property
    def path_options(self) -> camera.PathOptions:
        """The whole path problem, for a file."""
        return self._cropped(self.setting.options())

    @property
    def live_path_options(self) -> camera.PathOptions:
        """The whole path problem, for live video."""
        return self._cropped(self.setting.live_options())

    def _cropped(self, usual: camera.PathOptions) -> camera.PathOptions:
        options = usual if self.options is None else self.options
        return options if self.crop is None else replace(options, crop=self.crop)


@dataclass(frozen=True, slots=True, eq=False)
class Estimate(Options):
    """What to estimate the motion from, or the motion itself; see `legato.video.stabilize`."""

    mask: PathLike | NDArray[Any] | None = field(
        default=None, metadata={"type": Path, "metavar": "PICTURE", "help": "follow the scene only where it is white"}
    )
    region: Box | None = field(
        default=None,
        metadata={"numbers": 4, "metavar": "X,Y,W,H", "help": "follow the scene only inside this box, in pixels"},
    )
    subject: Box | None = field(
        default=None,
        metadata={"numbers": 4, "metavar": "X,Y,W,H", "help": "a box in the first frame: followed, and kept in view"},
    )
    rotation: Rotation | None = field(
        default=None,
        metadata={
            "choices": ROTATIONS,
            "help": "turn the pictures upright, or keep them as stored and the tag "
            "(default: as in the motion file, or apply)",
        },
    )
    stream: int | None = field(
        default=None,
        metadata={
            "type": int,
            "metavar": "N",
            "help": "which stream of the input, as ffprobe counts them "
            "(default: the video stream marked as default, else the largest)",
        },
    )
    deinterlace: bool = field(
        default=False,
        metadata={"help": "make whole pictures of interlaced ones first, by FFmpeg's filter bwdif"},
    )
    backend: Backend = field(
        default="native",
        metadata={
            "choices": BACKENDS,
            "help": "what follows the scene; opencv is for comparison (default: %(default)s)",
        },
    )
    allow_playlists: bool = field(
        default=False,
        metadata={
            "help": "read also what an input names that is a list of other files (HLS, DASH, concat); "
            "otherwise it is refused"
        },
    )
    motion: Analysis | PathLike | None = field(
        default=None, metadata={"type": Path, "metavar": "FILE", "help": "a motion file, in place of the estimate"}
    )

    def __post_init__(self) -> None:
        from legato._scalars import as_choice, as_count, as_flag

        if self.rotation is not None:
            self._put(rotation=as_choice("rotation", self.rotation, ROTATIONS))
        if self.stream is not None:
            self._put(stream=as_count("stream", self.stream, 0))
        backend = as_choice("backend", self.backend, BACKENDS)
        self._put(backend=backend, deinterlace=as_flag("deinterlace", self.deinterlace))

    def known(self) -> Analysis | None:
        """Give the motion that is known already; None: it is to be estimated."""
        from legato.video.motion.analysis import Analysis

        if self.motion is None:
            return None
        if not (self.mask is None and self.region is None and self.subject is None):
            raise ArgumentError("mask, region and subject: the motion is given, so they would have no use")
        known = self.motion if isinstance(self.motion, Analysis) else Analysis.load(self.motion)
        if self.rotation not in (None, known.rotation):
            raise ArgumentError(f"rotation: the motion was estimated with {known.rotation!r}")
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Beside(Options):
    """What to write beside the result; see `legato.video.stabilize`."""

    save_motion: PathLike | None = field(
        default=None, metadata={"type": Path, "metavar": "FILE", "help": "also write the motion file"}
    )
    compare: bool | PathLike | None = field(
        default=None,
        metadata={
            "metavar": "FILE",
            "nargs": "?",
            "const": True,
            "help": "also write original and result side by side (default: OUT with _compare added; give it after OUT)",
        },
    )
    report: bool | PathLike | None = field(
        default=None,
        metadata={
            "metavar": "FILE.json",
            "nargs": "?",
            "const": True,
            "help": "also write a report (default: OUT_report.json)",
        },
    )
    plot: bool | PathLike | None = field(
        default=None,
        metadata={
            "metavar": "FILE.svg|png",
            "nargs": "?",
            "const": True,
            "help": "also draw the path before and after (default: OUT_path.svg)",
        },
    )

    def __post_init__(self) -> None:
        for name in ("compare", "report", "plot"):
            asked = getattr(self, name)
            if asked is None or asked is False:
                self._put(**{name: None})
            elif asked is not True:
                self._put(**{name: checked_path(name, asked)})
        if self.save_motion is not None:
            self._put(save_motion=checked_path("save_motion", self.save_motion))

    def files(self, destination: Path) -> dict[str, Path | None]:
        """Name the files beside a result, by option; None: not asked for."""
        additions = {"compare": f"_compare{destination.suffix}", "report": "_report.json", "plot": "_path.svg"}
        named = {name: getattr(self, name) for name in (*additions, "save_motion")}
        return {
            name: destination.with_name(f"{destination.stem}{additions[name]}") if asked is True else asked
            for name, asked in named.items()
        }

    def check_plot(self) -> None:
        """Refuse now what would fail only after the work."""
        if self.plot is None:
            return
        if isinstance(self.plot, Path) and self.plot.suffix.lower() not in _PLOT_SUFFIXES:
            raise ArgumentError(f"plot: expected a name ending in {', '.join(_PLOT_SUFFIXES)}; got {self.plot}")
        try:
            importlib.import_module("matplotlib")
        except ImportError as error:
            raise DependencyError(f"plot: matplotlib is needed here: {install_command('video')}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Output(Options):
    """How the result is drawn, encoded and put in its place; see `legato.video.stabilize`."""

    interpolation: Interpolation = field(
        default="bicubic",
        metadata={"choices": INTERPOLATIONS, "help": "how pictures are resampled (default: %(default)s)"},
    )
    keep_borders: Border | None = field(
        default=None,
        metadata={
            "choices": BORDERS,
            "nargs": "?",
            "const": "black",
            "help": "show each steadied picture uncropped; where there is none it is black (default, if asked for; "
            "give it after OUT), or transparent in .mov, .webm and .mkv",
        },
    )
    scale: bool = field(
        default=True,
        metadata={
            "help": "enlarge what the crop leaves to the size of IN (default: yes); otherwise OUT is smaller, and its "
            "size the same whatever IN shows"
        },
    )
    codec: str | None = field(
        default=None,
        metadata={
            "help": "FFmpeg encoder, also hardware's such as hevc_nvenc (default: that of IN's family where OUT holds "
            "it, else libx264, libx265 beyond 8 bits; in .webm libvpx-vp9, libsvtav1)"
        },
    )
    crf: float | None = field(
        default=None, metadata={"type": float, "help": "constant quality, lower is better (default: 18)"}
    )
    encoder_preset: str = field(
        default="veryfast",
        metadata={"metavar": "SPEED", "help": "encoder speed, ultrafast to veryslow (default: %(default)s)"},
    )
    pixel_format: str | None = field(default=None, metadata={"help": "FFmpeg pixel format (default: that of IN)"})
    overwrite: bool = field(default=True, metadata={"help": "replace existing files (default: yes)"})
    threads: int = 1

    def __post_init__(self) -> None:
        from legato._scalars import as_choice, as_flag, as_threads
        from legato.video.media.encoders import check_encoder_preset

        interpolation = as_choice("interpolation", self.interpolation, INTERPOLATIONS)
        threads = as_threads(self.threads)
        if self.keep_borders is not None:
            self._put(keep_borders=as_choice("keep_borders", self.keep_borders, BORDERS))
        scale = as_flag("scale", self.scale)
        if self.keep_borders is not None and not scale:
            raise ArgumentError("scale: nothing is enlarged where keep_borders is given, so it has to stay as it is")
        overwrite = as_flag("overwrite", self.overwrite)
        self._put(interpolation=interpolation, threads=threads, overwrite=overwrite, scale=scale)
        check_encoder_preset("encoder_preset", self.encoder_preset)

    @property
    def encoding(self) -> dict[str, Any]:
        """The encoder's part, as `VideoWriter` takes it."""
        encoding: dict[str, Any] = {
            "codec": self.codec,
            "preset": self.encoder_preset,
            "pixel_format": self.pixel_format,
        }
        return encoding if self.crf is None else {**encoding, "crf": self.crf}

    @property
    def chosen(self) -> bool:
        """Whether the encoder was chosen, so that pictures which stay as they are must be encoded, too."""
        return any(choice is not None for choice in (self.codec, self.crf, self.pixel_format))


# All that `legato.video.stabilize` takes beside source, destination and progress; in the order of the command's help.
RECORDS: tuple[type[Options], ...] = (Aim, Estimate, Beside, Output)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """All that `legato.video.stabilize` was asked for, and that it can be done as far as the arguments tell.

    Attributes
    ----------
    source, destination : Path
    begun : Ahead or None
        The source, where its decoding has begun.
    aim, estimate, output, beside
        The options, by concern.
    files : dict of str to Path or None
        What to write beside the result, by option.
    known : Analysis or None
        The motion, where it is known already.
    """

    source: Path
    destination: Path
    begun: Ahead | None
    aim: Aim
    estimate: Estimate
    output: Output
    beside: Beside
    files: dict[str, Path | None]
    known: Analysis | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Gather the arguments by concern; check what one of them means for another.

        Raises
        ------
        ArgumentError
            If one is not as described, two exclude each other, or a file would be written over another.
        InputError
            If the motion file cannot be read.
        """
        from legato.video.media.copying import container_of

        aim, estimate, output = Aim.of(given), Estimate.of(given), Output.of(given)
        source, destination = (checked_path(name, given[name]) for name in ("source", "destination"))
        beside = Beside.of(given)
        files = beside.files(destination)
        inputs: dict[str, PathLike] = {"input": source}
        for name, asked in (("motion", estimate.motion), ("mask", estimate.mask), ("salient", aim.salient)):
            if asked is not None and not _in_memory(asked):
                inputs[name] = checked_path(name, asked)
        check_destinations(inputs, {"destination": destination, **files}, output.overwrite)
        if aim.filled and (output.keep_borders is not None or not output.scale):
            raise ArgumentError("fill: a picture that is kept whole has no borders to keep, and nothing is cut from it")
        for video in (destination, files["compare"]):
            if video is not None:
                container_of(video)
        beside.check_plot()
        known = estimate.known()
        begun = given["source"] if isinstance(given["source"], Ahead) else None
        request = cls(source, destination, begun, aim, estimate, output, beside, files, known)
        if aim.level == "orientation" and (known is None or known.roll is None):
            raise ArgumentError("level: expected a motion file that has orientations")
        if aim.pull > 0 and aim.salient is None and not request.has_subject:
            raise ArgumentError("center: nothing to follow: give a subject or salient points (preset 'follow', too)")
        return request

    @property
    def asked(self) -> list[str]:
        """What was asked for that means nothing to a clip which is left as it is."""
        return [*self.aim.asked, *(["region"] if self.estimate.region is not None else [])]

    @property
    def has_subject(self) -> bool:
        """Whether a subject is followed, or was."""
        return self.estimate.subject is not None or (self.known is not None and self.known.subject is not None)

    @property
    def rotation(self) -> Rotation:
        """What becomes of a rotation tag."""
        return (self.estimate.rotation if self.known is None else self.known.rotation) or "apply"


def _as_level(level: object) -> float | str:
    from legato._scalars import as_number, shown

    if level in LEVELS:
        return str(level)
    try:
        return as_number("level", float(level) if isinstance(level, str) else level, least=-_MOST_TURN, most=_MOST_TURN)
    except (ArgumentError, ValueError):
        names = ", ".join(map(repr, LEVELS))
        raise ArgumentError(
            f"level: expected {names} or degrees from -{_MOST_TURN} to {_MOST_TURN}, got {shown(level)}"
        ) from None


def _in_memory(given: object) -> bool:
    import numpy as np

    from legato.video.motion.analysis import Analysis

    return isinstance(given, Analysis | np.ndarray)
