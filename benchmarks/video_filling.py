"""Fill a border that is known: how near the filled picture of the preset "full" comes to the truth.

python benchmarks/video_filling.py CLIP... [--step 8] [--limit 180] [--pictures DIR]

A tenth of each side of every frame is withheld. What is left is tracked, its path planned by the preset "full" and its
pictures completed; what the view then shows of the withheld border is compared with it, in luma, on pixels that every
way covers: "edge" continues the frame's own edge, "paste" takes the nearest frame that shows the place, put there by
the homography alone, and "fill" is the product's kernel. PSNR in dB: mean over the pictures, and 5th percentile.
"flicker": root mean square change between pictures in the view, of the filled and of the true border. "cov.": of
the pixels asked for. "rank": correlation of the ranks of predicted and true errors of the cells. Pictures, on demand:
truth and filled side by side, and below them continued edges and the fill with its seam.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from legato import camera, video
from legato.video.filling import VIEW, Filler, Lender, Neighborhood, Source, reach_frames
from legato.video.planning import window_frames
from legato.video.presets import preset_named
from legato.video.warping import warp

WITHHELD = 0.1
LEAST_PIXELS = 300


class Clip(NamedTuple):
    """A clip without its border.

    Attributes
    ----------
    whole, inner : list of Planes
    lenders : list of Lender
        Of the inner frames.
    corrections : (n, 3, 3) float64 array
        From the view to the inner frame.
    margin : (int, int)
    """

    whole: list[video.Planes]
    inner: list[video.Planes]
    lenders: list[Lender]
    corrections: np.ndarray
    margin: tuple[int, int]


def withheld(path: Path, limit: int | None) -> Clip:
    with video.VideoReader(path) as reader:
        whole = [frame.planes for frame, _ in zip(reader, range(limit or 10**9), strict=False)]
        rate = float(reader.frame_rate)
    width, height = whole[0].size
    mx, my = (int(side * WITHHELD) // 4 * 4 for side in (width, height))
    inner = [cut(planes, mx, my) for planes in whole]
    size = inner[0].size
    tracker = video.Tracker(size)
    motion, ok = [np.eye(3)], [True]
    for planes in inner:
        step = tracker.push(video.luma(planes))
        if step is not None:
            motion.append(step.homography)
            ok.append(step.ok)
    lenders = [Lender(planes, m, good) for planes, m, good in zip(inner, motion, ok, strict=True)]
    preset = preset_named("full")
    options = preset.options().at_frame_rate(rate)
    window, stride = window_frames(preset.window_s or 6.0, rate)
    bridged = camera.bridge_motion(np.array(motion), np.array(ok))
    path_ = camera.contain(
        camera.smooth_path(bridged, size, options, window=window, stride=stride).corrections, size, options
    )
    corrections = path_ @ camera.crop_map(size, replace(options, window_scale=VIEW))
    return Clip(whole, inner, lenders, corrections, (mx, my))


def cut(planes: video.Planes, mx: int, my: int) -> video.Planes:
    sx, sy = planes.subsampling
    within = [
        None if plane is None else np.ascontiguousarray(plane[my // y : -my // y or None, mx // x : -mx // x or None])
        for plane, x, y in ((planes.y, 1, 1), (planes.u, sx, sy), (planes.v, sx, sy))
    ]
    return video.Planes(*within, planes.bit_depth, planes.chroma_location)


def positions(correction: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: size[1], : size[0]].astype(float)
    q = correction @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    return (q[0] / q[2]).reshape(x.shape), (q[1] / q[2]).reshape(x.shape)


def inside(x: np.ndarray, y: np.ndarray, size: tuple[int, int], inset: float = 0.0) -> np.ndarray:
    return (x >= inset) & (y >= inset) & (x <= size[0] - 1 - inset) & (y <= size[1] - 1 - inset)


def pasted(drawn: np.ndarray, asked: np.ndarray, correction: np.ndarray, sources: list[Source]) -> np.ndarray:
    """Take what is asked for from the nearest frames, in place; give what none of them shows."""
    left = asked.copy()
    size = drawn.shape[::-1]
    for source in sources:
        if not left.any():
            break
        there = source.map @ correction
        shown = left & inside(*positions(there, size), source.lender.planes.size, 2)
        if shown.any():
            moved = warp(source.lender.planes.y, there, size, interpolation="bicubic")
            drawn[shown] = np.asarray(moved.y if isinstance(moved, video.Planes) else moved)[shown]
            left &= ~shown
    return left


def psnr(squared: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(float(squared.mean()), 1e-3))


def ranked(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)).astype(float)


def measure(path: Path, step: int, limit: int | None, pictures: Path | None) -> str:
    clip = withheld(path, limit)
    size = clip.inner[0].size
    reach = reach_frames(clip.inner[0].nbytes, 30.0)
    around, filler = Neighborhood(reach), Filler()
    shift = np.array([[1, 0, clip.margin[0]], [0, 1, clip.margin[1]], [0, 0, 1.0]])
    ready = []
    for t, lender in enumerate(clip.lenders):
        ready += [(t, sources) for (t, _, sources) in around.push(t, lender)]
    ready += [(t, sources) for (t, _, sources) in around.finish()]
    scores: dict[str, list[float]] = {"edge": [], "paste": [], "fill": []}
    covered, share, flicker, cells = [], [], [], []
    seconds = count = 0.0
    before: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None
    for t, sources in ready:
        if t % step > 1:
            continue
        correction = clip.corrections[t]
        drawn = warp(clip.inner[t], correction, size, interpolation="bicubic")
        edge = np.array(drawn.y, float)
        begin = time.thread_time()
        errors = filler(drawn, correction, clip.lenders[t], sources)
        seconds += time.thread_time() - begin
        count += 1
        truth = np.array(warp(clip.whole[t], shift @ correction, size, interpolation="bicubic").y, float)
        x, y = positions(correction, size)
        known = inside(x + clip.margin[0], y + clip.margin[1], clip.whole[t].size, 1)
        asked = ~inside(x, y, size) & known
        filled = np.array(drawn.y, float)
        if before is not None and before[0] == t - 1:
            both = asked & before[3]
            if both.sum() > LEAST_PIXELS:
                flicker.append(
                    [np.mean((now - then)[both] ** 2) for now, then in ((filled, before[1]), (truth, before[2]))]
                )
        before = (t, filled, truth, asked)
        if t % step or asked.sum() < LEAST_PIXELS:
            continue
        paste = edge.copy()
        left = pasted(paste, asked, correction, sources)
        side = -(-size[0] // errors.shape[1])
        cell = np.repeat(np.repeat(errors, side, 0), side, 1)[: size[1], : size[0]]
        common = asked & ~left & np.isfinite(cell)
        share.append(asked.mean())
        covered.append(common.sum() / asked.sum())
        if common.sum() < LEAST_PIXELS:
            continue
        for name, made in (("edge", edge), ("paste", paste), ("fill", filled)):
            scores[name].append(psnr((made - truth)[common] ** 2))
        for row, column in zip(*np.nonzero(np.isfinite(errors) & (errors > 0)), strict=True):
            window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
            if common[window].sum() > 20:
                true = float(np.abs(filled - truth)[window][common[window]].mean())
                cells.append((float(errors[row, column]), true))
        if pictures is not None:
            seam = filled.copy()
            own = inside(x, y, size)
            edges = own ^ np.roll(own, 1, 0) | own ^ np.roll(own, 1, 1)
            seam[edges] = 255
            save(np.vstack([np.hstack([truth, filled]), np.hstack([edge, seam])]), pictures / f"{path.stem}_{t}.png")
    flick = np.sqrt(np.mean(flicker, 0)) if flicker else np.full(2, np.nan)
    rank = np.corrcoef(*map(ranked, np.array(cells).T))[0, 1] if len(cells) > 5 else np.nan
    figures = "  ".join(f"{np.mean(v):5.1f} {np.percentile(v, 5):5.1f}" for v in scores.values() if v)
    return (
        f"{path.stem:16s} {len(scores['fill']):4d} {100 * np.mean(share):5.1f}  {figures}  "
        f"{flick[0]:5.1f} {flick[1]:5.1f}  {100 * np.mean(covered):5.1f}  {rank:.2f}  {1e3 * seconds / count:.1f}"
    )


def save(gray: np.ndarray, path: Path) -> None:
    import cv2

    cv2.imwrite(str(path), np.clip(gray, 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", metavar="CLIP", type=Path, nargs="+")
    parser.add_argument("--step", type=int, default=8, help="every so many frames (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="only so many frames of each clip")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures compared")
    arguments = parser.parse_args()
    if arguments.pictures is not None:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
    head = "edge         paste        fill         flicker      cov.  rank  ms"
    print(f"{'clip':16s} {'pics':>4s} {'asked':>5s}  {head}", flush=True)
    for clip in arguments.clips:
        print(measure(clip, arguments.step, arguments.limit, arguments.pictures), flush=True)


if __name__ == "__main__":
    main()
