"""Write a video file: pictures encoded, everything else copied, whole or not at all."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from legato._files import PathLike, PendingFile, reason
from legato._turns import Turns, one_at_a_time
from legato.errors import ArgumentError, OutputError
from legato.video.media.copying import (
    PacketTiming,
    StreamCopier,
    _lasting,
    abandon,
    container_of,
    opened_for_writing,
    start_shift,
    take_over_tags,
)
from legato.video.media.decoding import load_av
from legato.video.media.encoders import (
    add_video_stream,
    check_encodable,
    chosen_codec,
    encodable_size,
    encoder_options,
    find_encoder,
    open_encoder,
    taken_format,
    transparent_codec,
    with_alpha,
)
from legato.video.media.filters import FewColors
from legato.video.media.planes import Planes, depth_of, plane_views, planes_of
from legato.video.media.reader import VideoReader, chroma_name, keep_within_depth

__all__ = ["VideoWriter"]

_GIF_CLOCK = Fraction(1, 100)
_NOT_REORDERED = 2  # pictures; of so few x265 does not know by how much decoding comes first, and tells anything


class VideoWriter:
    """Write pictures to a video file with the sound, subtitles and tags of the video that they came from.

    The file grows without a name (a hidden one where the system knows no unnamed files) and appears under its own by
    `close`, complete or not at all: leaving the ``with`` block by an exception removes what was written and leaves an
    older file as it was.

    Parameters
    ----------
    path : str or path
        Destination: .mp4, .m4v, .mov, .mkv, .webm, .avi, .ts or .gif.
    source : VideoReader
        The video whose timestamps, pixel format, tags and other streams are taken over.
    size : (int, int), optional
        Width and height to write; by default the source's. See `encodable_size`.
    codec : str, optional
        FFmpeg's name of an encoder, hardware's included (hevc_nvenc, h264_qsv, ...). By default that of the source's
        family (libx264, libx265, libsvtav1, libvpx-vp9, prores_ks, ffv1) where the container holds it. Otherwise
        libx264, and in .webm libvpx-vp9; for more than 8 bits libx265, and in .webm libsvtav1.
    crf : float
        Constant quality, for encoders that have it: lower is better and larger. 18 is close to transparent in
        H.264 and H.265.
    preset : str
        Speed against size, "ultrafast" to "veryslow", for libx264, libx265 and libsvtav1.
    pixel_format : str, optional
        FFmpeg's name; by default the source's, or the nearest that the encoder takes.
    codec_options : dict, optional
        Further options of the encoder, by FFmpeg's names.
    copy_streams : bool
        Whether to copy sound, subtitles and attachments.
    alpha : bool
        Whether pictures may be transparent in part. The encoder is then by default prores_ks in .mov, libvpx-vp9 in
        .webm and ffv1 in .mkv.

    Attributes
    ----------
    size : (int, int)
        Size of the pictures written.
    codec, pixel_format : str
        What is encoded.
    copied, not_copied : list of str
        The source's other streams, by what became of them.
    notes : list of str
        What of the pictures' depth and chroma, and of chapters, could not be kept.
    frames : int
        Pictures written so far.

    Raises
    ------
    ArgumentError
        If the extension, codec, preset, crf or an option is unknown.
    OutputError
        If the file cannot be written.

    See Also
    --------
    VideoReader : Read the pictures of a video file, in order, once.
    Planes : One picture in planar YUV, or in gray when it has no chroma.

    Examples
    --------
    >>> from legato import video
    >>> truth = video.synthesize("shaky.mp4", size=(160, 120), frames=3)
    >>> with video.VideoReader("shaky.mp4") as reader, video.VideoWriter("copy.mkv", reader) as writer:
    ...     for frame in reader:
    ...         writer.write(frame.planes, frame.pts, frame.duration)
    >>> writer.frames
    3
    """

    def __init__(
        self,
        path: PathLike,
        source: VideoReader,
        *,
        size: tuple[int, int] | None = None,
        codec: str | None = None,
        crf: float = 18,
        preset: str = "veryfast",
        pixel_format: str | None = None,
        codec_options: dict[str, str] | None = None,
        copy_streams: bool = True,
        alpha: bool = False,
    ) -> None:
        self._turns = Turns()
        self._av = load_av()
        self.path = Path(path)
        self._muxer, usual = container_of(self.path)
        self._planar_format = source.pixel_format
        asked_size = size or (source.width, source.height)
        if alpha:
            self.codec = codec or transparent_codec(self.path.suffix, self._muxer)
            self._planar_format = with_alpha(self._planar_format)
        else:
            wanted = pixel_format if isinstance(pixel_format, str) else self._planar_format
            self.codec = codec or chosen_codec(source.codec, wanted, asked_size, self._muxer, usual)
        self._alpha = alpha
        self._location: Literal["left", "center"] = source.chroma_location
        encoder = find_encoder(self.codec)
        self.pixel_format = self._chosen_format(encoder, pixel_format)
        self.notes = self._losses(source, asked=pixel_format is not None)
        self.size = encodable_size(asked_size, self.pixel_format)
        check_encodable(self.codec, self.size)
        self._time_base, self._clock = source.time_base, source.time_base
        if self._muxer == "avi":  # counts frames, so its clock must tick once a frame
            self._clock = 1 / source.frame_rate
        elif self._muxer == "gif":
            self._clock = _GIF_CLOCK
        self._color = source.color
        self._few_colors = FewColors(self._clock) if self.pixel_format == "pal8" else None
        self.copied: list[str] = []
        self.not_copied: list[str] = []
        self.frames = 0
        self._durations: dict[int, int] = {}
        self._last_pts: int | None = None
        self._shift_s = start_shift(source)
        self._shift = round(self._shift_s / source.time_base)
        # Pictures given by `new_planes` and not written yet; weak, since a caller may drop one.
        self._handed: weakref.WeakKeyDictionary[Planes, Any] = weakref.WeakKeyDictionary()
        self._copier: StreamCopier | None = None
        self._timing: PacketTiming | None = None

        self._pending = PendingFile(self.path)
        try:
            self._container = opened_for_writing(self._av, self._pending.path, self._muxer, self._clock)
            self._stream = self._video_stream(source, encoder)
            self._open_encoder(encoder_options(self.codec, crf, preset, self._muxer, source.hdr), codec_options)
            if copy_streams:
                self._copier = StreamCopier(self._av, source, self._container, self._muxer)
                self._copier.shift_s = self._shift_s
                self.copied, self.not_copied = self._copier.copied, self._copier.not_copied
            self.notes += take_over_tags(source, self._container)
        except BaseException:
            self.abort()
            raise

    def _chosen_format(self, encoder: Any, asked: str | None) -> str:
        taken = [f.name for f in encoder.video_formats or ()]
        if asked is not None:
            if not isinstance(asked, str) or (taken and asked not in taken):
                raise ArgumentError(f"pixel_format: {self.codec} takes {', '.join(taken)}; got {asked!r}")
            return asked
        if encoder.name == "gif":
            return "pal8"
        return taken_format(encoder, self._planar_format, alpha=self._alpha)

    def _losses(self, source: VideoReader, *, asked: bool) -> list[str]:
        """Tell what becomes of depth and chroma on the way from the file to the encoder."""
        stored, planar, written = (
            self._av.VideoFormat(name, 16, 16)
            for name in (source.stored_format, self._planar_format, self.pixel_format)
        )
        notes: list[str] = []
        if self.pixel_format == "pal8":
            return ["each picture has at most 256 colors"]
        deep, kept = (max(c.bits for c in f.components if not c.is_alpha) for f in (stored, written))
        if kept < deep:
            most = max(c.bits for c in planar.components)
            why = "as asked" if asked else f"{self.codec} takes no more" if kept < most else "more is not handled"
            notes.append(f"{deep} bits became {kept}: {why}")
        had, has = chroma_name(stored), chroma_name(written)
        if had not in (has, "gray"):
            why = f"{self.codec} takes no {had}"
            if asked:
                why = "as asked"
            elif has == chroma_name(planar):
                why = "pictures are drawn in YUV" if had == "RGB" else "it was resampled"
            notes.append(f"{had if had == 'RGB' else f'chroma {had}'} became {has}: {why}")
        return notes + source.hdr.losses(self.codec)

    def _video_stream(self, source: VideoReader, encoder: Any) -> Any:
        rate = source.frame_rate.limit_denominator(100_000)
        stream = add_video_stream(self._container, encoder.name, rate, f"{self.path.suffix} files")
        context = stream.codec_context
        context.width, context.height = self.size
        context.pix_fmt = self.pixel_format
        context.time_base = stream.time_base = self._clock
        context.sample_aspect_ratio = source.sample_aspect_ratio
        context.color_range = source.color.range
        context.color_primaries = source.color.primaries
        context.color_trc = source.color.transfer
        context.colorspace = source.color.matrix
        # PyAV's own default is threads within a frame, which costs x264 quality.
        context.thread_type = "AUTO"
        if encoder.canonical_name == "hevc" and self._muxer in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # Apple's players open no other
        if source.display_matrix is not None:
            stream.set_display_matrix(source.display_matrix)
        stream.metadata.update(_lasting(source._stream.metadata))
        return stream

    def _open_encoder(self, options: dict[str, str], extra: dict[str, str] | None) -> None:
        context = self._stream.codec_context
        context.options = {**options, **(extra or {})}
        open_encoder(context)
        unknown = sorted(set(extra or {}) & set(context.options))
        if unknown:
            raise ArgumentError(f"codec_options: {self.codec} has no option {', '.join(unknown)}")

    def new_planes(self) -> Planes:
        """Give a picture of the size and format to write, over the encoder's memory, content undefined.

        Handed to `write`, it is not copied again. Several may be under way at once, and filled by another thread than
        the one that writes.

        See Also
        --------
        VideoWriter.write : Encode the next picture.
        """
        frame = self._av.VideoFrame(*self.size, self._planar_format)
        planes = planes_of(frame, self._location, writable=True)
        self._handed[planes] = frame
        return planes

    @one_at_a_time
    def write(self, planes: Planes, pts: int, duration: int = 0, *, shown: NDArray[np.bool_] | None = None) -> None:
        """Encode the next picture.

        Parameters
        ----------
        planes : Planes
            A picture of `size`, in the source's planar format.
        pts, duration : int
            Its time of presentation and its time on screen (0: unknown), in the source's time base.
        shown : (height, width) bool array, optional
            Where the picture is not transparent, for a writer of such; by default everywhere.

        See Also
        --------
        VideoWriter.new_planes : Give a picture of the size and format to write, over the encoder's memory.
        """
        frame = self._framed(planes)
        if self._alpha:
            opaque = plane_views(frame, writable=True)[-1]
            most = (1 << depth_of(self._planar_format)) - 1
            opaque[...] = most if shown is None else shown * np.asarray(most, opaque.dtype)
        pts -= self._shift
        if self._clock != self._time_base:
            rate = self._time_base / self._clock
            pts, duration = round(pts * rate), 1 if self._muxer == "avi" else round(duration * rate)
            if self._last_pts is not None and pts <= self._last_pts:
                why = "holds one constant frame rate and this video's varies"
                if self._muxer == "gif":
                    why = "counts hundredths of a second and this video's pictures come faster"
                raise OutputError(f"{self.path}: {self.path.suffix} {why}; write .mp4 or .mkv")
        self._last_pts = pts
        frame.pts, frame.time_base = pts, self._clock
        if duration:
            self._durations[pts] = duration
        self._encode(frame)
        self.frames += 1

    def _framed(self, planes: Planes) -> Any:
        handed = self._handed.pop(planes, None)
        if handed is not None:
            keep_within_depth([p for p in (planes.y, planes.u, planes.v) if p is not None], planes.bit_depth)
            return handed
        frame = self._av.VideoFrame(*self.size, self._planar_format)
        views = plane_views(frame, writable=True)
        views = views[: len(views) - self._alpha]
        given = [p for p in (planes.y, planes.u, planes.v) if p is not None]
        if [p.shape for p in given] != [v.shape for v in views] or given[0].dtype != views[0].dtype:
            raise ArgumentError(f"planes: expected a picture of {self.size[0]}x{self.size[1]} {self._planar_format}")
        for view, plane in zip(views, given, strict=True):
            view[...] = plane
        keep_within_depth(views, planes.bit_depth)
        return frame

    def _gray(self, frame: Any) -> Any:
        """Give the luma alone as it is: FFmpeg would stretch it to the full range, whatever the tags say."""
        gray = self._av.VideoFrame(*self.size, self.pixel_format)
        luma, target = plane_views(frame, writable=False)[0], plane_views(gray, writable=True)[0]
        up = depth_of(self.pixel_format) - depth_of(self._planar_format)
        if up >= 0:
            target[...] = luma.astype(target.dtype) << up
        else:
            rounded = (luma.astype(np.uint32) + (1 << (-up - 1))) >> -up
            target[...] = np.minimum(rounded, (1 << depth_of(self.pixel_format)) - 1)
        gray.pts, gray.time_base = frame.pts, frame.time_base
        return gray

    def _encode(self, frame: Any) -> None:
        if frame is not None and self.pixel_format.startswith("gray") and self.pixel_format != self._planar_format:
            frame = self._gray(frame)
        try:
            for packet in self._packets(frame):
                duration = self._durations.pop(packet.pts, 0)
                if duration:  # encoders leave it out, and then the last frame's would be a guess
                    packet.duration = duration
                if frame is None and self.frames <= _NOT_REORDERED:
                    packet.dts = packet.pts
                if self._timing is None:
                    self._container.start_encoding()  # the stream's clock is known from here on
                    self._timing = PacketTiming(self._stream, self._muxer)
                for timed in self._timing.push(packet):
                    if self._copier is not None:
                        self._copier.copy_until(timed.dts * float(timed.time_base))
                    self._container.mux(timed)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error

    def _packets(self, frame: Any) -> Iterator[Any]:
        """Encode a picture, or None for the end."""
        if self._few_colors is not None:
            if frame is not None:
                frame.colorspace, frame.color_range = self._color.matrix, self._color.range
            for reduced in self._few_colors.push(frame):
                yield from self._stream.encode(reduced)
        if self._few_colors is None or frame is None:
            yield from self._stream.encode(frame)

    @one_at_a_time
    def finish(self) -> None:
        """Encode what is still in the encoder and complete the file, without its final name yet.

        Raises
        ------
        OutputError
            If no picture was written or the file cannot be completed.

        See Also
        --------
        VideoWriter.commit : Give the finished file its final name.
        """
        if self.frames == 0:
            raise OutputError(f"{self.path}: no picture was written")
        self._encode(None)
        try:
            if self._copier is not None:
                self._copier.copy_until(float("inf"))
            self._container.close()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise OutputError(f"{self.path}: cannot be written ({reason(error)})") from error
        if self._copier is not None:
            self._copier.close()

    @property
    def damaged_packets(self) -> int:
        """Packets of copied streams that were so damaged that the container could not take them; they are left out."""
        return 0 if self._copier is None else self._copier.damaged

    @one_at_a_time
    def commit(self) -> None:
        """Give the finished file its final name.

        See Also
        --------
        VideoWriter.abort : Remove what was written; after `commit` nothing happens.
        """
        self._pending.commit()

    @one_at_a_time
    def close(self) -> None:
        """Finish the file and give it its final name.

        See Also
        --------
        VideoWriter.finish : Encode what is still in the encoder and complete the file, without its final name yet.
        VideoWriter.commit : Give the finished file its final name.
        """
        self.finish()
        self.commit()

    @one_at_a_time
    def abort(self) -> None:
        """Remove what was written; after `commit` nothing happens.

        See Also
        --------
        VideoWriter.close : Finish the file and give it its final name.
        """
        abandon(self._pending, self._copier, getattr(self, "_container", None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()
