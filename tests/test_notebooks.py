"""What a notebook or a prompt shows of results: one line, and a picture or a page that needs no network."""

from __future__ import annotations

import html
import re
import sys
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from legato import camera, rft
from legato import diffusion as D
from legato._curves import curves_svg
from legato.camera.homographies import to_pixel_units
from legato.camera.plotting import path_curves
from legato.errors import DependencyError

SVG = "{http://www.w3.org/2000/svg}"


def path_of(frames: int) -> camera.CameraPath:
    motion = np.tile(np.eye(3), (frames, 1, 1))
    motion[1:, :2, 2] = np.random.default_rng(0).normal(scale=4, size=(frames - 1, 2))
    return camera.smooth_path(motion, size=(640, 360))


def report() -> rft.Report:
    return rft.scan({"prompt": ["a<b>", "a<b>", "c", "c"], "reward": [1.0, 0.0, 1.0, 1.0]})


@pytest.mark.parametrize("thing", [path_of(40), D.Schedule.vp_cosine(1000), report()], ids=lambda x: type(x).__name__)
def test_one_line(thing: Any) -> None:
    line = repr(thing)
    assert line.startswith(f"<{type(thing).__name__} of ")
    assert "\n" not in line
    assert len(line) < 160


def test_a_path_is_four_panels_of_two_curves() -> None:
    path = path_of(40)
    picture = ET.fromstring(path._repr_svg_() or "")
    assert [text.text for text in picture.iter(f"{SVG}text")].count("after") == 4
    lines = [line.attrib["d"] for line in picture.iter(f"{SVG}path")]
    assert len(lines) == 8
    assert all(line.count("L") == 39 for line in lines)
    curves = path_curves(to_pixel_units(path.motion, path.size), path.corrections, path.size)
    both = np.concatenate([side["horizontal (px)"] for side in curves])
    assert {f"{both.max():.3g}", f"{both.min():.3g}"} <= {text.text for text in picture.iter(f"{SVG}text")}


def test_a_schedule_is_its_levels() -> None:
    schedule = D.Schedule.vp_cosine(4000)
    lines = [line.attrib["d"] for line in ET.fromstring(schedule._repr_svg_()).iter(f"{SVG}path")]
    assert len(lines) == 2
    assert all(line.count("L") < 1000 for line in lines)  # no more than can be seen


def test_curves_have_gaps_and_escaped_names() -> None:
    picture = ET.fromstring(
        curves_svg("<a>", {"&": {"x": [1.0, np.nan, 3.0, 4.0]}, "flat": {"y": [2.0, 2.0], "z": []}})
    )
    lines = [line.attrib["d"] for line in picture.iter(f"{SVG}path")]
    assert lines[0].count("M") == 2
    assert lines[2] == ""


def test_a_report_is_its_page_in_a_frame() -> None:
    shown = report()._repr_html_()
    page = re.fullmatch(r'<iframe sandbox srcdoc="([^"<>]*)" [^<>]*></iframe>', shown)
    assert page is not None
    assert html.unescape(page[1]) == report().to_html()


def test_data_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DependencyError, match="pip install pandas"):
        report().to_pandas()
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    frame = report().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == list(report().columns())
    assert len(frame) == 2
