"""A page that shows a video before and after in step, with the camera path beneath."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from legato._files import PathLike, check_destinations, read_text, write_whole
from legato._printing import printable
from legato.errors import InputError
from legato.video.media.decoding import TRUST, playlist_kind

__all__ = ["write_page"]

_MOST_BYTES = 1 << 30
_LARGEST = 1e12  # of a figure that is shown; JSON's 1e999 is infinite
_TAKEN = {"notes": list, "failed": list, "dropped_streams": list, "comparison": str, "preset": str}
_NEEDED = {"source": str, "destination": str, "curves": dict, "frames": int, "size": list}


def write_page(report: PathLike, page: PathLike | None = None, *, allow_playlists: bool = False) -> Path:
    """Write the page of a report.

    The page is one file without anything from elsewhere but the two videos, which it names relative to itself. It needs
    a browser that plays their kind.

    Parameters
    ----------
    report : str or path
        A report of `stabilize`, as JSON.
    page : str or path, optional
        The page to write; by default the report's name with .html.
    allow_playlists : bool
        Whether the videos may be lists of other files, which a browser may then fetch.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If the report cannot be read or is none, or the videos that it names are not there, one and the same, or lists
        of other files.
    ArgumentError
        If the page is one of the files that belong to it.
    OutputError
        If the page cannot be written.
    """
    path = Path(report)
    target = path.with_suffix(".html") if page is None else Path(page)
    content = _read(path)
    found = {}
    for name in ("source", "destination"):
        # Reports may have moved together with their videos, and early ones name them relative to where the command ran.
        given = Path(content[name])
        places = (given, path.parent / given, path.parent / given.name)
        there = [p.resolve() for p in places if p.is_file()]
        if not there:
            raise InputError(f"{path}: {name}: no such file: {given}")
        found[name] = there[0]
        kind = None if allow_playlists else playlist_kind(there[0])
        if kind is not None:
            raise InputError(f"{path}: {name}: {given} is {kind}, which names other files ({TRUST})")
    if found["source"] == found["destination"]:
        raise InputError(
            f"{path}: source and destination are both found as {found['source']}; run it where the report was made"
        )
    belongings: dict[str, PathLike] = {"report": path, **found}
    if isinstance(content.get("comparison"), str):
        belongings["comparison"] = content["comparison"]
    check_destinations(belongings, {"page": target})
    videos = {name: _quoted(os.path.relpath(file, target.resolve().parent)) for name, file in found.items()}
    facts = _facts(content)
    rate = content.get("frame_rate") if _is_figure(content.get("frame_rate")) else None
    data = {"curves": content["curves"], "failed": content.get("failed") or [], "rate": rate}
    filled = {
        "TITLE": _shown(os.fsencode(Path(content["destination"]).name).decode(errors="replace")),
        "SOURCE": html.escape(videos["source"], quote=True),
        "DESTINATION": html.escape(videos["destination"], quote=True),
        "FACTS": "".join(f"<div><dt>{_shown(k)}</dt><dd>{_shown(v)}</dd></div>" for k, v in facts.items()),
        "NOTES": "".join(f"<li>{_shown(note)}</li>" for note in _notes(content)),
        # "</script" would end the data in the middle of a name, and "<!--<script" would never let them end.
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = importlib.resources.files("legato.video.results").joinpath("view.html").read_text(encoding="utf-8")
    for kind in ("script", "style"):
        filled[kind.upper()] = _allowed(re.findall(rf"<{kind}>(.*?)</{kind}>", template, re.DOTALL))
    text = re.sub("@([A-Z]+)@", lambda field: filled[field[1]], template)
    return write_whole(target, text)


def _allowed(contents: Sequence[str]) -> str:
    """Name inline contents as a content policy does: what is not among them does not run."""
    digests = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _shown(text: str) -> str:
    return html.escape(printable(text))


def _quoted(name: str) -> str:
    return urllib.parse.quote(os.fsencode(name))  # of whatever bytes


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, _MOST_BYTES)
    try:
        content = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a report of `legato stabilize` (not JSON)") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(k), kind) for k, kind in _NEEDED.items()):
        raise InputError(f"{path}: not a report of `legato stabilize`")
    for name, kind in _TAKEN.items():
        given = content.get(name)
        sound = given is None or isinstance(given, kind)
        if not sound or (name == "failed" and not all(type(t) is int for t in given or [])):
            raise InputError(f"{path}: {name}: not as `legato stabilize` writes it")
    for name in ("source", "destination", "comparison"):
        if "\0" in (content.get(name) or ""):
            raise InputError(f"{path}: {name}: no name of a file")
    curves = content["curves"]
    sets = [curves.get("before"), curves.get("after")]
    lines = [curves.get("time_s"), *(line for one in sets if isinstance(one, dict) for line in one.values())]
    if len(lines) != 9 or not all(_is_curve(line, content["frames"]) for line in lines):
        raise InputError(f"{path}: curves: expected time_s and four curves before and after")
    return content


def _refused(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_curve(line: object, frames: int) -> bool:
    """Whether something is a number a frame, or null where it is not known."""
    return isinstance(line, list) and len(line) == frames and all(v is None or _is_figure(v) for v in line)


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST


def _notes(content: dict[str, Any]) -> list[str]:
    """Give what a user should know beside the figures."""
    notes = [_text(note) for note in content.get("notes") or []]
    dropped = content.get("dropped_streams") or []
    return [*notes, f"not copied: {', '.join(map(_text, dropped))}"] if dropped else notes


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode()  # JSON may hold halves of characters


def _facts(content: dict[str, Any]) -> dict[str, str]:
    """Give what is said beside the pictures."""

    def number(name: str, form: str) -> str:
        value = content.get(name)
        return form.format(value) if _is_figure(value) else "unknown"

    return {
        "picture": f"{'x'.join(map(_text, content['size'][:2]))}, {number('frame_rate', '{:.5g}')} fps",
        "jitter": f"{number('jitter_in_px', '{:.2f}')} px before, {number('jitter_out_px', '{:.2f}')} px after",
        "view kept": number("cropping", "{:.1%}"),
        "preset": _text(content.get("preset")),
        "motion not found": f"{len(content.get('failed') or [])} frames",
    }
