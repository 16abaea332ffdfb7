"""Encoders that FFmpeg has: which there are, how they are opened, and their speed and quality in words of their own."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

import numpy as np

from legato import _core
from legato._files import reason
from legato.errors import ArgumentError
from legato.video.media.decoding import load_av

__all__ = ["available_codecs", "encodable_size"]


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
_DEEP_WEBM = "libsvtav1"  # in .webm where there are more than 8 bits, which this VP9 has not
_DEEP_LEAST_SIDE = 64  # of a picture that it takes
_SVT_PRESETS = dict(zip(_PRESETS, ("10", "9", "8", "7", "6", "5", "4", "3", "2"), strict=True))
_MOST_CRF = {"libx264": 51, "libx265": 51}
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


def add_video_stream(container: Any, codec: str, rate: Fraction, where: str) -> Any:
    """Add a stream of pictures to a container, or say that it does not hold such."""
    try:
        return container.add_stream(codec, rate=rate)
    except ValueError as error:
        raise ArgumentError(f"codec: {where} cannot hold {codec}") from error


def open_encoder(context: Any) -> None:
    """Open an encoder whose settings are made, or say what it refuses."""
    try:
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


def encoder_options(codec: str, crf: float, preset: str, muxer: str) -> dict[str, str]:
    most = _MOST_CRF.get(codec, 63)
    if not (isinstance(crf, int | float | np.number) and 0 <= crf <= most):
        raise ArgumentError(f"crf: expected a number from 0 to {most} for {codec}, got {crf!r}")
    check_encoder_preset("preset", preset)
    options: dict[str, str] = {}
    if codec in ("libx264", "libx265"):
        options = {"crf": f"{crf:g}", "preset": preset}
        if codec == "libx264" and _core.best_isa() == "avx512":
            # With its code for AVX-512 the bytes differ from run to run at some widths (PyAV 18).
            options["x264-params"] = "asm=avx2"
        if codec == "libx265":
            options["x265-params"] = "log-level=error"  # it writes to stderr by itself
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
    if muxer == "avi" and codec.startswith(("libx26", "mpeg")):
        options["bf"] = "0"  # AVI has no way to say in which order frames are shown
    return options


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
