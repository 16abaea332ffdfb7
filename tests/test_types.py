"""What a type checker sees: names are Literals, the very ones that are taken, and functions return arrays."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parents[1]

# Module, its Literal, and the table of names that arguments are held against.
NAMES = [
    ("legato._dispatch", "Backend", "BACKENDS"),
    ("legato.camera.baselines", "Filter", "FILTERS"),
    ("legato.camera.options", "Model", "MODELS"),
    ("legato.camera.options", "Units", "UNITS"),
    ("legato.camera.programs", "Solver", "SOLVERS"),
    ("legato.diffusion.guidance", "Rule", "RULES"),
    ("legato.diffusion.noise", "Generator", "GENERATORS"),
    ("legato.diffusion.plans", "HigherOrder", "HIGHER_ORDER_SAMPLERS"),
    ("legato.diffusion.schedules", "Spacing", "SPACINGS"),
    ("legato.diffusion.steps", "Prediction", "PREDICTIONS"),
    ("legato.diffusion.steps", "Sampler", "SAMPLERS"),
    ("legato.rasp.drawing", "Engine", "ENGINES"),
    ("legato.rasp.selectors", "Rounding", "ROUNDINGS"),
    ("legato.rft.advantages", "Kind", "_SCALES"),
    ("legato.rft.advantages", "Singleton", "SINGLETONS"),
    ("legato.rft.intervals", "Method", "METHODS"),
    ("legato.rft.judging", "Interval", "INTERVALS"),
    ("legato.rft.layouts", "ListRule", "LIST_RULES"),
    ("legato.rft.losses", "Bounding", "BOUNDINGS"),
    ("legato.rft.losses", "KLKind", "KL_KINDS"),
    ("legato.rft.losses", "Level", "LEVELS"),
    ("legato.rft.losses", "Mode", "MODES"),
    ("legato.rft.losses", "Surrogate", "SURROGATES"),
    ("legato.rft.rollouts", "NanRule", "NAN_RULES"),
    ("legato.rft.selection", "Form", "FORMS"),
    ("legato.video.choices", "Rotation", "ROTATIONS"),
    ("legato.video.media.planes", "ChromaLocation", "CHROMA_LOCATIONS"),
    ("legato.video.choices", "Inclusion", "INCLUSIONS"),
    ("legato.video.live.sink", "Container", "CONTAINERS"),
    ("legato.video.synthetic.synthesis", "Kind", "_KINDS"),
    ("legato.video.motion.tracking", "Model", "_LADDER"),
    ("legato.video.warping", "Backend", "BACKENDS"),
    ("legato.video.choices", "Interpolation", "INTERPOLATIONS"),
]


@pytest.mark.parametrize(("module", "alias", "table"), NAMES)
def test_names_are_those_that_are_taken(module: str, alias: str, table: str) -> None:
    found = importlib.import_module(module)
    names: Iterable[str] = getattr(found, table)
    assert set(get_args(getattr(found, alias))) == set(names)


def test_names_with_something_more() -> None:
    from legato.rasp.selectors import REDUCTIONS, Reduction
    from legato.video import presets

    assert set(get_args(Reduction)) == set(REDUCTIONS) - {"width"}  # which is sel_width's own
    assert set(get_args(presets.PresetName)) == {*presets.PRESETS, *presets._ALIASES}


# Each line is right, or ends in the code of the error that a type checker gives it.
CHECKED = """
import numpy as np
from numpy.typing import NDArray
from legato import camera, diffusion as D, rasp, rft, video

motion = np.tile(np.eye(3), (9, 1, 1))
camera.smooth_path(motion, (640, 360), units="width", solver="osqp", backend="numpy")
camera.smooth_path(motion, (640, 360), units="widths")  # arg-type
camera.smooth_path(motion, (640, 360), solver="oscqp")  # arg-type
camera.smooth_path(motion, (640, 360), backend="nativ")  # arg-type
camera.PathOptions(model="affine")
camera.PathOptions(model="afine")  # arg-type
camera.filter_path(motion, (640, 360), kind="average")
camera.filter_path(motion, (640, 360), kind="mean")  # arg-type

schedule = D.Schedule.vp_cosine(5)
x = np.zeros((5, 4), np.float32)
D.sample(lambda x, *a: x, (5, 4), schedule, "dpmpp_2m", prediction="v", generator="philox")
D.sample(lambda x, *a: x, (5, 4), schedule, "dpmpp_3m")  # arg-type
D.sample(lambda x, *a: x, (5, 4), schedule, prediction="eps")  # arg-type
D.step_coefficients(schedule, "heun")  # arg-type
D.normal((5, 4), generator="threefly")  # arg-type
D.Schedule.vp_scaled_linear(5, spacing="trailling")  # arg-type
D.Guidance(2.0, rule="cfg+")  # arg-type
D.convert_prediction(x, x, 1.0, 1.0, given="epsilon", wanted="vel")  # arg-type

tokens = np.array([1, 2, 1])
counts: NDArray[np.int64] = rasp.num_prev(tokens, tokens)
shifted: NDArray[np.int64] = rasp.shift_right([1, 2], 1, default=-1)
means: NDArray[np.float64] = rasp.kqv(tokens, tokens, tokens, rasp.equals, rounding="float")
wrong: NDArray[np.float64] = rasp.cumsum(tokens)  # assignment
text: str = rasp.kqv(tokens, tokens, tokens, rasp.equals)  # assignment
picked: rasp.Selector = rasp.select(tokens, tokens, rasp.leq)
rasp.kqv(tokens, tokens, tokens, rasp.equals, reduction="max")
rasp.kqv(tokens, tokens, tokens, rasp.equals, reduction="maximum")  # call-overload
rasp.aggr(picked, tokens, rounding="flor")  # call-overload
rasp.argmax(tokens).no_such_thing  # attr-defined
rasp.Program(lambda t: rasp.where(rasp.indices(t) > 1, t, 0))

rft.group_advantages([1.0], [0], kind="rloo", singleton="raw")
rft.group_advantages([1.0], [0], kind="rlo")  # arg-type
rft.masked_mean(x, mode="seq-sum")  # arg-type
rft.policy_loss(x, x, x, kind="trpo")  # arg-type
rft.kl_loss(x, x, kind="k3+")
rft.importance_weights(x, x, level="word")  # arg-type
rft.reward_std_interval([1.0], method="bayes")  # arg-type
rft.scan("rollouts.parquet", interval="mp", nan="drop")
rft.scan("rollouts.parquet", nan="keep")  # arg-type
rft.Columns(lists="all")  # arg-type

gray = np.zeros((48, 64), np.uint8)
video.warp(gray, np.eye(3), interpolation="lanczos")
video.warp(gray, np.eye(3), interpolation="lanczos4")  # arg-type
video.Tracker((64, 48), "identity")  # arg-type
video.Planes(gray, chroma_location="middle")  # arg-type
video.stabilize("a.mp4", "b.mp4", preset="walk", inclusion="hard", rotation="keep")
video.stabilize("a.mp4", "b.mp4", preset="smoth")  # arg-type
video.stabilize_live(0, "-", container="y4m")
video.stabilize_live(0, "-", container="y4")  # arg-type
video.synthesize("a.mp4", kind="walking")  # arg-type
"""


@pytest.mark.slow
def test_a_type_checker_catches_typos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    checked = tmp_path / "checked.py"
    checked.write_text(CHECKED)
    monkeypatch.setenv("MYPYPATH", str(ROOT / "python"))
    monkeypatch.chdir(ROOT)
    said, trouble, _ = api.run(["--strict", "--no-error-summary", "--hide-error-context", f"--cache-dir={tmp_path}/c",
                                str(checked)])  # fmt: skip
    assert not trouble
    found = {
        int(line): code for line, code in re.findall(r"checked\.py:(\d+): error: .*\[([a-z-]+)\]$", said, re.MULTILINE)
    }
    wanted = {at: line.rpartition("  # ")[2] for at, line in enumerate(CHECKED.splitlines(), 1) if "  # " in line}
    assert found == wanted, said
