"""Encoders that FFmpeg has: which there are, how they are opened, and their speed and quality in words of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from legato import _core
from legato._files import reason
from legato.errors import ArgumentError
from legato.video.media.colors import HdrMetadata, settings_of
from legato.video.media.decoding import load_av

__all__ = ["available_codecs", "encodable_size", "encoder_options"]


_PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)
_SVT_PRESETS = dict(zip(_PRESETS, ("10", "9", "8", "7", "6", "5", "4", "3", "2"), strict=True))
_MOST_CRF = {"libx264": 51, "libx265": 51}
# Where no encoder is asked for, that of the input's family, in the containers that hold it.
_OF_FAMILY = {
    "h264": ("libx264", {"mp4", "mov", "matroska", "avi", "mpegts"}),
    "hevc": ("libx265", {"mp4", "mov", "matroska", "mpegts"}),
    "av1": ("libsvtav1", {"mp4", "matroska", "webm"}),
    "vp9": ("libvpx-vp9", {"mp4", "matroska", "webm"}),
    "prores": ("prores_ks", {"mov", "matroska"}),
    "ffv1": ("ffv1", {"matroska", "avi"}),
}
# For more than 8 bits: H.264 has ten of them, and hardly a player for that; VP9 has none in most builds of FFmpeg.
_DEEP = {"mp4": "libx265", "mov": "libx265", "matroska": "libx265", "mpegts": "libx265", "webm": "libsvtav1"}
# Of a picture, in pixels: the longer side, below which x265 writes beyond its memory, and the shorter, from which on an
# encoder is taken without being asked for.
_X265_LEAST_SIDE, _CHOSEN_LEAST_SIDE = 64, 64
_CODEC_FAMILIES = {
    "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"),
    "av1": ("libsvtav1", "libdav1d"),
    "vp9": ("libvpx-vp9", "vp9"),
    "ffv1": ("ffv1", "ffv1"),
    "prores": ("prores_ks", "prores"),
    "mpeg4": ("mpeg4", "mpeg4"),
    "mjpeg": ("mjpeg", "mjpeg"),
}


def check_encoder_preset(name: str, value: object) -> None:
    """Refuse what is no encoder's speed."""
    if value not in _PRESETS:
        raise ArgumentError(f"{name}: expected one of {', '.join(_PRESETS)}; got {value!r}")


def find_encoder(name: object) -> Any:
    """Find an encoder of video by FFmpeg's name, or say that there is none."""
    try:
        encoder = load_av().codec.Codec(name, "w")
    except (ValueError, LookupError, TypeError) as error:
        raise ArgumentError(f"codec: no encoder named {name!r} in this FFmpeg") from error
    if encoder.type != "video":
        raise ArgumentError(f"codec: {name!r} is an encoder of {encoder.type}, expected of video")
    return encoder


class PixelTraits(NamedTuple):
    """What of a picture a pixel format can hold; compared, the more the better.

    Attributes
    ----------
    chroma : int
        0 none, 1 at a quarter of the pixels or less, 2 at half, 3 at each.
    depth : int
        Bits of a sample.
    """

    chroma: int
    depth: int

    @classmethod
    def of(cls, name: str) -> PixelTraits | None:
        """Look a format up by FFmpeg's name; None: there is none such, or it is RGB, or no pictures lie in memory."""
        try:
            pixels = load_av().VideoFormat(name, 16, 16)
        except ValueError:
            return None
        components = [c for c in pixels.components if not c.is_alpha]
        if not components or pixels.is_rgb or pixels.has_palette or pixels.is_big_endian:
            return None
        chroma = 0
        if len(components) >= 3:
            wide, high = pixels.chroma_width(16), pixels.chroma_height(16)
            chroma = 1 + (wide > 8 or (wide == 8 and high > 8)) + (wide > 8 and high > 8)
        return cls(chroma, max(c.bits for c in components))

    def lost(self, wanted: PixelTraits) -> tuple[int, int]:
        """Tell what of another format's chroma and depth this one has no room for."""
        return max(0, wanted.chroma - self.chroma), max(0, wanted.depth - self.depth)


def taken_format(encoder: Any, wanted: str, *, alpha: bool = False) -> str:
    """Choose the pixel format of an encoder that keeps the most of another, and needs the least room for it."""
    taken = list(encoder.video_formats or ())
    if not taken or wanted in [pixels.name for pixels in taken]:
        return wanted
    asked = PixelTraits.of(wanted)
    fitting = []
    for pixels in taken:
        traits = PixelTraits.of(pixels.name)
        if asked and traits and any(c.is_alpha for c in pixels.components) == alpha:
            # Of equals the one that is planar, whose name is the plainest: FFmpeg needs not interleave it.
            fitting.append((*traits.lost(asked), *asked.lost(traits), len(pixels.name), pixels.name))
    if alpha and not fitting:
        raise ArgumentError(f"codec: {encoder.name} takes no transparent pictures")
    return str(min(fitting)[-1] if fitting else taken[0].name)


def chosen_codec(family: str, wanted: str, size: tuple[int, int], muxer: str, usual: str) -> str:
    """Choose an encoder where none was asked for: that of the input's family, unless another keeps more of it.

    Parameters
    ----------
    family : str
        FFmpeg's name of the input's codec.
    wanted : str
        Pixel format of the pictures, or what is asked for instead.
    size : (int, int)
        Their width and height.
    muxer, usual : str
        The kind of container, and the encoder that is usual there.
    """
    traits = PixelTraits.of(wanted) or PixelTraits(3, 8)
    own, held = _OF_FAMILY.get(family, ("", set()))
    candidates = [own] if muxer in held else []
    if traits.depth > 8 and muxer in _DEEP:
        candidates.append(_DEEP[muxer])
    kept = []
    for codec in candidates:
        small = codec in ("libx265", "libsvtav1") and min(size) < _CHOSEN_LEAST_SIDE
        if not small and codec in load_av().codecs_available:
            kept.append(codec)
    kept.append(usual)

    def lost(codec: str) -> tuple[int, int]:
        best = PixelTraits.of(taken_format(find_encoder(codec), wanted))
        chroma, depth = (0, 0) if best is None else best.lost(traits)
        return depth, chroma

    return min(kept, key=lost)  # the first of equals


_TRANSPARENT = {"mov": "prores_ks", "webm": "libvpx-vp9", "matroska": "ffv1"}


def transparent_codec(suffix: str, muxer: str) -> str:
    """Give the encoder of a container that holds pictures which are transparent in part."""
    if muxer not in _TRANSPARENT:
        raise ArgumentError(f"keep_borders: {suffix} files hold no transparent pictures; .mov, .webm and .mkv do")
    return _TRANSPARENT[muxer]


def with_alpha(planar: str) -> str:
    """Name the planar format that holds transparency besides."""
    if not planar.startswith("yuv"):
        raise ArgumentError("keep_borders: gray pictures have no transparent form here; black is there")
    return planar.replace("yuv", "yuva", 1)


def check_encodable(codec: str, size: tuple[int, int]) -> None:
    """Refuse pictures that an encoder would write beyond its memory for."""
    if codec == "libx265" and max(size) < _X265_LEAST_SIDE:
        raise ArgumentError(
            f"codec: libx265 takes no pictures as small as {size[0]}x{size[1]} (expected a side of at least "
            f"{_X265_LEAST_SIDE})"
        )


def add_video_stream(container: Any, codec: str, rate: Fraction, where: str) -> Any:
    """Add a stream of pictures to a container, or say that it does not hold such."""
    try:
        return container.add_stream(codec, rate=rate)
    except ValueError as error:
        raise ArgumentError(f"codec: {where} cannot hold {codec}") from error


@contextlib.contextmanager
def _ordinary_scheduling() -> Iterator[None]:
    """Leave no thread in real time that was not: libsvtav1 makes its own and its caller's so where root runs it.

    Nothing else would run then, on any core, while it encodes.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        yield
        return
    ordinary = [os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE]
    mine = os.sched_getscheduler(0)
    before = {task.name for task in tasks.iterdir()}
    try:
        yield
    finally:
        if mine in ordinary:
            new = {int(task.name) for task in tasks.iterdir() if task.name not in before}
            for thread in (0, *new):
                with contextlib.suppress(OSError):  # it may have ended
                    if os.sched_getscheduler(thread) not in ordinary:
                        os.sched_setscheduler(thread, mine, os.sched_param(0))


def open_encoder(context: Any) -> None:
    """Open an encoder whose settings are made, or say what it refuses."""
    try:
        with _ordinary_scheduling():
            context.open()
    except (load_av().FFmpegError, ValueError) as error:
        raise ArgumentError(
            f"codec: {context.name} refuses {context.width}x{context.height} {context.pix_fmt} with "
            f"{context.options} ({reason(error)})"
        ) from error


def encodable_size(size: tuple[int, int], pixel_format: str) -> tuple[int, int]:
    """Give the size in which a picture is written: without the odd column or row that subsampled chroma forbids.

    Parameters
    ----------
    size : (int, int)
        Width and height in pixels.
    pixel_format : str
        FFmpeg's name of the encoder's pixel format.

    Returns
    -------
    (int, int)
        The same size, or one less in a direction in which the chroma is subsampled; never below 2 there.
    """
    width, height = size
    if "420" in pixel_format or "422" in pixel_format:
        width = max(2, width - width % 2)
    if "420" in pixel_format:
        height = max(2, height - height % 2)
    return width, height


def encoder_options(codec: str, crf: float, preset: str, muxer: str, hdr: HdrMetadata | None = None) -> dict[str, str]:
    """Say quality, speed and what the stream tells of itself in the words of an encoder.

    Parameters
    ----------
    codec : str
        FFmpeg's name of it.
    crf : float
        Constant quality.
    preset : str
        Speed, "ultrafast" to "veryslow".
    muxer : str
        The kind of container.
    hdr : HdrMetadata, optional
        What is written into the stream where the encoder can.
    """
    most = _MOST_CRF.get(codec, 51 if codec.endswith(tuple(_HARDWARE)) else 63)
    if not (isinstance(crf, int | float | np.number) and 0 <= crf <= most):
        raise ArgumentError(f"crf: expected a number from 0 to {most} for {codec}, got {crf!r}")
    check_encoder_preset("preset", preset)
    options: dict[str, str] = {}
    settings: dict[str, str] = {}
    if codec in ("libx264", "libx265"):
        options = {"crf": f"{crf:g}", "preset": preset}
        if codec == "libx264" and _core.best_isa() == "avx512":
            # With its code for AVX-512 the bytes differ from run to run at some widths (PyAV 18).
            settings["asm"] = "avx2"
        if codec == "libx265":
            settings["log-level"] = "error"  # it writes to stderr by itself
    elif codec in ("libvpx-vp9", "libvpx"):
        options = {"crf": f"{crf:g}", "deadline": "good", "cpu-used": "4"}
        if codec == "libvpx-vp9":
            options["row-mt"] = "1"
    elif codec == "libsvtav1":
        options = {"crf": f"{crf:g}", "preset": _SVT_PRESETS[preset]}
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it, too, writes to stderr by itself
    elif codec in ("mpeg4", "mjpeg", "mpeg2video"):
        options = {"flags": "+qscale", "global_quality": str(3 * 118)}  # quantizer 3
        if codec == "mjpeg":
            options["strict"] = "unofficial"  # or it takes full range only
    else:
        options = next((words(crf, preset) for end, words in _HARDWARE.items() if codec.endswith(end)), {})
    if muxer == "avi" and codec.startswith(("libx26", "mpeg")):
        options["bf"] = "0"  # AVI has no way to say in which order frames are shown
    settings |= {} if hdr is None else hdr.options(codec)
    if settings:
        options[str(settings_of(codec))] = ":".join(f"{key}={value}" for key, value in settings.items())
    return options


def _nvenc(crf: float, preset: str) -> dict[str, str]:
    speed = 1 + _PRESETS.index(preset) * 6 // (len(_PRESETS) - 1)
    return {"rc": "vbr", "cq": f"{crf:g}", "b": "0", "preset": f"p{speed}"}


def _qsv(crf: float, preset: str) -> dict[str, str]:
    return {"global_quality": f"{max(round(crf), 1)}", "preset": _PRESETS[max(_PRESETS.index(preset), 2)]}


def _amf(crf: float, preset: str) -> dict[str, str]:
    speed = ("speed", "balanced", "quality")[_PRESETS.index(preset) * 3 // len(_PRESETS)]
    return {"rc": "cqp", "qp_i": f"{round(crf)}", "qp_p": f"{round(crf)}", "quality": speed}


def _videotoolbox(crf: float, _preset: str) -> dict[str, str]:
    share = round(118 * (100 - 100 * crf / 51))  # of 100, the best, in FFmpeg's units of quality
    return {"flags": "+qscale", "global_quality": f"{share}"}


# Ends of the names of hardware's encoders: how each of them says quality and speed.
_HARDWARE: dict[str, Callable[[float, str], dict[str, str]]] = {
    "_nvenc": _nvenc,
    "_qsv": _qsv,
    "_amf": _amf,
    "_videotoolbox": _videotoolbox,
}


def available_codecs() -> dict[str, dict[str, str | None]]:
    """Tell which well-known video codecs this FFmpeg can write and read.

    Returns
    -------
    dict
        Family ("h264", "av1", ...) to {"encoder": name or None, "decoder": name or None}.

    Raises
    ------
    DependencyError
        If PyAV is not installed.

    See Also
    --------
    VideoWriter : Write pictures to a video file with the sound, subtitles and tags of the video that they came from.

    Examples
    --------
    >>> from legato import video
    >>> sorted(video.available_codecs()["h264"])
    ['decoder', 'encoder']
    """
    av = load_av()

    def present(name: str, mode: str) -> str | None:
        try:
            av.codec.Codec(name, mode)
        except (ValueError, LookupError):
            return None
        return name

    return {
        family: {"encoder": present(encoder, "w"), "decoder": present(decoder, "r")}
        for family, (encoder, decoder) in _CODEC_FAMILIES.items()
    }
