"""Draw the course's pictures again: ``python figures.py`` (matplotlib, scikit-learn; a few seconds)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from digits import TRAINING, Denoiser, images
from flow_network import Flow, annulus
from flow_network import spiral as spiral_sample
from matplotlib import pyplot as plt

from legato import diffusion as D

FOLDER = Path(__file__).with_name("figures")
MIXTURE = D.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.1, 0.1])
BLUE, ORANGE, GRAY = "#2166ac", "#d6604d", "#888888"

mpl.use("svg")
mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "legato"})


def save(figure: plt.Figure, name: str) -> None:
    figure.savefig(
        FOLDER / name, dpi=100, bbox_inches="tight", metadata={"Date": None} if name.endswith("svg") else None
    )
    plt.close(figure)


def followed(model: Any, start: np.ndarray, levels: D.Schedule, sampler: str) -> np.ndarray:
    """States of a run at every level, shape (levels, samples, d)."""
    states = [start]
    D.sample(model, start.shape, levels, sampler, x=start, callback=lambda _, x: states.append(x.copy()))
    return np.array(states)


def density(x: np.ndarray, sigma: float) -> np.ndarray:
    return np.exp(MIXTURE.log_density(x[:, None], 1.0, sigma))


def forward() -> None:
    x = np.linspace(-5, 5, 400)
    figure, axes = plt.subplots(1, 5, figsize=(9, 1.8), sharey=True)
    for axis, t in zip(axes, (0, 0.05, 0.2, 0.5, 1), strict=True):
        axis.fill_between(x, density(x, 2.0 * t**0.5), color=BLUE, alpha=0.8, lw=0)
        axis.set(title=f"t = {t}", yticks=[])
    save(figure, "forward.svg")


def backward() -> None:
    x, z = np.linspace(-3, 3, 600), 0.2
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.0))
    for axis, s in zip(axes, (1.0, 0.5, 0.25), strict=True):
        truth = density(x, 0.0) * np.exp(-((x - z) ** 2) / (2 * s * s))
        truth /= truth.sum() * (x[1] - x[0])
        mean = z + s * s * MIXTURE.score([[z]], 1.0, s)[0, 0]
        axis.plot(x, truth, color=BLUE, label="law of the point before")
        axis.plot(
            x,
            np.exp(-((x - mean) ** 2) / (2 * s * s)) / (s * np.sqrt(2 * np.pi)),
            "--",
            color=ORANGE,
            label="N(mean, s²)",
        )
        axis.axvline(z, color=GRAY, lw=0.8)
        axis.set(title=f"s = {s}", yticks=[])
    axes[0].legend(frameon=False, fontsize=7, loc="upper right")
    save(figure, "backward.svg")


def paths() -> None:
    steps = 200
    levels = D.Schedule.ve(steps, 2.0)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
    for axis, sampler in zip(axes, ("tutorial_ddpm", "tutorial_ddim"), strict=True):
        track = [2.0 * D.normal((200, 1), seeds=0, step=-1)[:, 0]]
        D.sample(
            MIXTURE, (200, 1), levels, sampler=sampler, seeds=0, callback=lambda _, x, t=track: t.append(x[:, 0].copy())
        )
        axis.plot(np.linspace(1, 0, steps + 1), track, color=BLUE, alpha=0.18, lw=0.6)
        axis.invert_xaxis()
        axis.set(title={"tutorial_ddpm": "DDPM", "tutorial_ddim": "DDIM"}[sampler], xlabel="t")
    save(figure, "paths.png")


def spiral_points(count: int) -> np.ndarray:
    angle = np.linspace(0.5, 3.0, count) * np.pi
    return np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 5


def spiral() -> None:
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.1), sharex=True, sharey=True)
    for axis, count in zip(axes, (10, 20, 40), strict=True):
        points = spiral_points(count)
        levels = D.Schedule.karras(100, sigma_max=3.0)
        track = [3.0 * D.normal((120, 2), seeds=1, step=-1)]
        D.sample(
            D.EmpiricalDenoiser(points), (120, 2), levels, x=track[0], callback=lambda _, x, t=track: t.append(x.copy())
        )
        lines = np.array(track)
        axis.plot(lines[:, :, 0], lines[:, :, 1], color=BLUE, alpha=0.25, lw=0.6)
        axis.plot(*points.T, "o", color=ORANGE, ms=4)
        axis.set(title=f"{count} points", aspect="equal", xlim=(-4, 4), ylim=(-4, 4))
    save(figure, "spiral.png")


def flow() -> None:
    shown = (1.0, 0.75, 0.5, 0.2, 0.1, 0.05, 0.0)
    steps = 200
    model = D.EmpiricalDenoiser(spiral_points(300))
    states = followed(model, D.normal((1500, 2), seeds=0), D.Schedule.flow(steps), "flow_euler")
    figure, axes = plt.subplots(1, 7, figsize=(12, 2), sharex=True, sharey=True)
    for axis, t in zip(axes, shown, strict=True):
        axis.plot(*states[round((1 - t) * steps)].T, ".", color=BLUE, ms=1.5, alpha=0.5)
        axis.set(title=f"t = {t:g}", aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    save(figure, "flow.png")


def trained_flow() -> None:
    """Draw the trained flow from the annulus at six times, and guided away from its own early state."""
    steps, start = 100, annulus(1500, 1)
    late, early = Flow.load(), Flow.load("early")
    levels, shown = D.Schedule.flow(steps), (1.0, 0.6, 0.3, 0.1, 0.0)
    states = [start]
    how = {"sampler": "flow_euler", "prediction": "flow", "x": start}
    D.sample(late, start.shape, levels, **how, callback=lambda _, x: states.append(x.copy()))
    ends = {
        "early network": D.sample(early, start.shape, levels, **how),
        "autoguidance, 2": D.sample(D.guided(late, early), start.shape, levels, **how, guidance_scale=2.0),
        "data": spiral_sample(1500, 2),
    }
    panels = {f"t = {t:g}": states[round((1 - t) * steps)] for t in shown} | ends
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.2), sharex=True, sharey=True)
    for axis, (title, points) in zip(axes.flat, panels.items(), strict=True):
        axis.plot(*points.T, ".", color=ORANGE if title == "data" else BLUE, ms=1.5, alpha=0.5)
        axis.set(title=title, aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2), xticks=[], yticks=[])
    save(figure, "trained_flow.png")


def guided_mixture() -> None:
    """Draw CFG by DDIM and by DDPM, and PCG, on the mixture in the plane of ``legato diffusion reproduce``."""
    corners = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    uncond = D.GaussianMixture(np.ones(4), corners, np.full(4, 0.15))
    cond = uncond.reweighted([0.7, 0.3, 0.0, 0.0])
    levels, pair = D.Schedule.vp_linear(300), D.guided(cond, uncond)
    axis = np.linspace(-0.5, 2.8, 160), np.linspace(-2.6, 2.6, 240)
    grid = np.stack(np.meshgrid(*axis), -1).reshape(-1, 2)
    powered = np.exp(3 * cond.log_density(grid, 1.0, 0.0) - 2 * uncond.log_density(grid, 1.0, 0.0))
    runs = {"CFG-DDIM": ("ddim", 0), "CFG-DDPM": ("ddpm", 0), "PCG, K = 1": ("ddim", 1)}
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), sharex=True, sharey=True)
    for panel, (title, (sampler, correctors)) in zip(axes, runs.items(), strict=True):
        x = D.sample(pair, (3000, 2), levels, sampler, guidance_scale=3.0, corrector_steps=correctors, seeds=2)
        panel.plot(*x.T, ".", color=BLUE, ms=1.5, alpha=0.4)
        panel.contour(*axis, powered.reshape(240, 160), levels=powered.max() * np.array([0.1, 0.6]), colors=ORANGE)
        panel.set(title=title, aspect="equal", xlim=(-0.5, 2.8), ylim=(-2.6, 2.6), xticks=[], yticks=[])
    save(figure, "guided_mixture.png")


def guidance() -> None:
    g = np.linspace(1, 10, 200)
    figure, axis = plt.subplots(figsize=(5, 3))
    axis.semilogy(g, 2 / (g + 1), color=GRAY, label="the powered law itself")
    axis.semilogy(g, (2 - 2 ** (2 - 2 * g)) / (2 * g - 1), color=ORANGE, label="CFG with DDPM")
    axis.semilogy(g, 2.0 ** (1 - g), color=BLUE, label="CFG with DDIM")
    levels = D.Schedule.ve(4000, 100.0, sigma_min=0.01)
    for sampler, color in (("ddpm", ORANGE), ("ddim", BLUE)):
        scales = np.arange(1, 11)
        found = [
            D.gaussian_moments(levels, sampler=sampler, cond=(0, 1), uncond=(0, 2), guidance_scale=float(s))[1]
            for s in scales
        ]
        axis.semilogy(scales, found, "o", ms=3, color=color)
    axis.set(xlabel="guidance scale γ", ylabel="variance")
    axis.legend(frameon=False)
    save(figure, "guidance.svg")


def digits() -> None:
    pixels, labels = images()
    ideal = D.EmpiricalDenoiser(pixels[:TRAINING], labels=labels[:TRAINING])
    network = Denoiser.load()
    levels = D.Schedule.karras(50, sigma_max=20.0, sigma_min=0.02)
    rows = [
        ("training images", None, 1.0, 0),
        ("ideal denoiser", ideal, 1.0, 0),
        ("network, γ = 1", network, 1.0, 0),
        ("network, CFG γ = 2", network, 2.0, 0),
        ("network, CFG γ = 4", network, 4.0, 0),
        ("network, PCG γ = 2", network, 2.0, 1),
    ]
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 5.2))
    for axis, (name, model, scale, corrector) in zip(axes, rows, strict=True):
        tiles = []
        for label in range(10):
            if model is None:
                drawn = pixels[:TRAINING][labels[:TRAINING] == label][:2]
            else:
                pair = D.guided(model.given(label), model)
                drawn = D.sample(
                    pair, (2, 64), levels, guidance_scale=scale, corrector_steps=corrector, seeds=40 + label
                )
            tiles += [np.pad(image.reshape(8, 8), 1, constant_values=-1) for image in drawn]
        axis.imshow(np.concatenate(tiles, 1), cmap="gray", vmin=-1, vmax=1)
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.spines[:].set_visible(False)
    save(figure, "digits.png")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (forward, backward, paths, spiral, flow, trained_flow, guidance, guided_mixture, digits):
        draw()
        print(draw.__name__)
