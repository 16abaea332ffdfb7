"""Frames of any kind that Python hands over: their picture, a copy that nobody else writes, and a new one alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias, cast

from legato.video.media.planes import Picture, Planes, as_planes, is_pyav, like_pyav
from legato.video.media.reader import VideoFrame

__all__ = ["Frame", "owned", "picture_of", "redrawn"]

# Any: av.VideoFrame, whose package is imported where it is used.
Frame: TypeAlias = Picture | VideoFrame | Any


def picture_of(frame: Frame) -> Picture:
    """Give the picture of a frame, in the form that `as_planes` gives it.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    return as_planes(frame.planes if isinstance(frame, VideoFrame) else frame)


def redrawn(frame: Frame, picture: Picture) -> Frame:
    """Give a picture as a frame of the kind of another, with its time and tags where it has such."""
    if isinstance(frame, VideoFrame):
        return replace(frame, planes=cast(Planes, picture))
    if is_pyav(frame):
        return like_pyav(picture, frame)
    if isinstance(picture, Planes) and not isinstance(frame, Planes):
        return picture.y  # gray came as an array
    return picture


def owned(frame: Frame) -> Frame:
    """Give a frame that nobody else can write: itself, or a copy where its memory may be written."""
    if is_pyav(frame):
        return frame
    picture = frame.planes if isinstance(frame, VideoFrame) else frame
    if not isinstance(picture, Planes):
        return picture.copy() if picture.flags.writeable else picture
    if not any(p.flags.writeable for p in (picture.y, picture.u, picture.v) if p is not None):
        return frame
    y, u, v = (None if p is None else p.copy() for p in (picture.y, picture.u, picture.v))
    assert y is not None
    return redrawn(frame, Planes(y, u, v, picture.bit_depth, picture.chroma_location))
