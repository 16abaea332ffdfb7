"""What the numbers of a picture mean: color tags, and what an HDR master says of its display and its light."""

from __future__ import annotations

import importlib
import struct
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["ColorTags", "HdrMetadata"]

RANGE_LIMITED, RANGE_FULL = 1, 2  # AVColorRange
MATRIX_BT709, MATRIX_BT601 = 1, 6  # AVColorSpace
# AVMasteringDisplayMetadata: ten fractions (x and y of red, green, blue and white, least and most light), two flags.
_MASTERING = struct.Struct("=20i2i")
_LIGHT = struct.Struct("=2I")  # AVContentLightMetadata, of which more may follow
_DYNAMIC = {"DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_METADATA": "Dolby Vision", "DYNAMIC_HDR_VIVID": "HDR Vivid"}


@dataclass(frozen=True, slots=True)
class ColorTags:
    """How the numbers of a picture mean color, as FFmpeg numbers it (ITU-T H.273); 2 or 0 is unspecified.

    Attributes
    ----------
    range : int
        1 limited ("TV"), 2 full ("PC").
    primaries, transfer, matrix : int
        Color primaries, transfer characteristics and YUV matrix.
    """

    range: int = 0
    primaries: int = 2
    transfer: int = 2
    matrix: int = 2


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """What the master of an HDR video says of itself (SMPTE ST 2086, CTA-861.3).

    Attributes
    ----------
    primaries : tuple of 8 float, or None
        CIE 1931 x and y of the mastering display's red, green, blue and white.
    luminance : (float, float), or None
        Its least and its most light, in candela per square meter.
    light_level : (int, int), or None
        Most light of a pixel (MaxCLL) and of a picture's mean (MaxFALL), in candela per square meter.
    dynamic : tuple of str
        Kinds of metadata that each picture has of its own: "HDR10+", "Dolby Vision", "HDR Vivid".
    """

    primaries: tuple[float, ...] | None = None
    luminance: tuple[float, float] | None = None
    light_level: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()

    @classmethod
    def of(cls, frame: Any) -> Self:
        """Read it from a decoded picture."""
        kinds = importlib.import_module("av.sidedata.sidedata").Type
        found = {data.type: bytes(data) for data in frame.side_data}
        primaries = luminance = light_level = None
        mastering = found.get(kinds.MASTERING_DISPLAY_METADATA, b"")
        if len(mastering) >= _MASTERING.size:
            *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(mastering)
            values = [n / d if d else 0.0 for n, d in zip(numbers[::2], numbers[1::2], strict=True)]
            primaries = tuple(values[:8]) if has_primaries else None
            luminance = (values[8], values[9]) if has_luminance else None
        light = found.get(kinds.CONTENT_LIGHT_LEVEL, b"")
        if len(light) >= _LIGHT.size:
            light_level = _LIGHT.unpack_from(light)
        dynamic = tuple(name for kind, name in _DYNAMIC.items() if getattr(kinds, kind, None) in found)
        return cls(primaries, luminance, light_level, dynamic)

    def options(self, codec: str) -> dict[str, str]:
        """Give the settings by which an encoder writes this into its stream; empty where there is nothing.

        Parameters
        ----------
        codec : str
            FFmpeg's name of the encoder.

        Returns
        -------
        dict
            Setting to value, in the words of that encoder's own list of settings (see `settings_of`).
        """
        told: dict[str, str] = {}
        display, light = (_WORDS.get(codec) or ("", ""))[:2]
        if display and self.primaries is not None and self.luminance is not None:
            # x264 and x265 count in steps of 1/50000 and of 1/10000 candela per square meter.
            steps = codec != "libsvtav1"
            x = [f"{round(v * 50000)}" if steps else f"{v:g}" for v in self.primaries]
            least, most = (f"{round(v * 10000)}" if steps else f"{v:g}" for v in self.luminance)
            told[display] = f"G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})WP({x[6]},{x[7]})L({most},{least})"
        if light and self.light_level is not None:
            told[light] = "{},{}".format(*self.light_level)
        return told

    def losses(self, codec: str) -> list[str]:
        """Tell what of this an encoder does not write."""
        lost = []
        if codec not in _WORDS:
            display = self.primaries is not None or self.luminance is not None
            lost += ["mastering display"] * display + ["content light level"] * (self.light_level is not None)
        notes = [f"{' and '.join(lost)} not kept: {codec} does not write them"] if lost else []
        return notes + [f"{name} is not kept: it is of each picture as it was" for name in self.dynamic]


# Encoder: what it calls the mastering display and the light level, and the option that takes its own settings.
_WORDS = {
    "libx265": ("master-display", "max-cll", "x265-params"),
    "libx264": ("mastering-display", "cll", "x264-params"),
    "libsvtav1": ("mastering-display", "content-light", "svtav1-params"),
}


def settings_of(codec: str) -> str | None:
    """Name the option by which FFmpeg hands an encoder its own settings (``key=value``, colons between)."""
    return _WORDS[codec][2] if codec in _WORDS else None
