"""Animated WebP: short clips that pages show without a player."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from legato._files import PathLike, PendingFile
from legato.errors import OutputError
from legato.video.media.decoding import load_av

__all__ = ["write_animation"]


def write_animation(
    destination: PathLike, pictures: Iterable[NDArray[np.uint8]], fps: int, *, quality: int = 50
) -> None:
    """Write pictures as an animation that repeats for ever; the file appears whole or not at all.

    Parameters
    ----------
    destination : str or path
        The file, WebP whatever its name.
    pictures : iterable of (h, w, 3) uint8 arrays
        RGB, all of one size.
    fps : int
        Pictures a second.
    quality : int
        0 to 100.

    Raises
    ------
    OutputError
        If there is no picture, no encoder, or the file cannot be written.
    DependencyError
        If PyAV is not installed.
    """
    av = load_av()
    with PendingFile(destination) as pending:
        with pending.opened() as file:
            try:
                container = av.open(file, "w", format="webp", options={"loop": "0"})
                stream = container.add_stream("libwebp_anim", Fraction(fps))
            except (ValueError, av.FFmpegError) as error:
                raise OutputError(f"{destination}: this PyAV cannot write animated WebP ({error})") from None
            stream.pix_fmt, stream.options = "yuv420p", {"quality": str(quality), "compression_level": "6"}
            count = 0
            with container:
                for picture in pictures:
                    if not count:
                        stream.height, stream.width = picture.shape[:2]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                    count += 1
                if not count:
                    raise OutputError(f"{destination}: there is no picture to write")
                container.mux(stream.encode())
        pending.commit()
