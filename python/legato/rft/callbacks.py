"""Hooks for trainers: the doctor beside a running training.

`trl_callback` follows the completions that TRL's trainers log; `logged` and `verl_reward` keep the rewards of a reward
function in a file of lines, which `legato rft scan` and `legato rft watch` read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from legato._files import PathLike, append_lines, check_destinations, write_whole
from legato.errors import DependencyError
from legato.rft.judging import Settings
from legato.rft.watching import Watch

__all__ = ["logged", "trl_callback", "verl_reward"]

Log = Callable[..., Any]


def trl_callback(
    log: Log | None = None,
    page: PathLike | None = None,
    value_range: tuple[float, float] | None = None,
    folder: PathLike | None = None,
) -> Any:
    """Return a callback for TRL's GRPO and RLOO trainers, with ``log_completions=True``.

    Parameters
    ----------
    log : callable, optional
        Of trackio or wandb: ``wandb.log`` or ``trackio.log``. It gets a dictionary of numbers ("legato/no_gradient",
        "legato/all_zero", "legato/all_one", "legato/std", "legato/mean") and ``step=``, once a step.
    page : path, optional
        A page that is written anew after each step.
    value_range : (float, float), optional
        Least and largest possible reward.
    folder : path, optional
        Where the completions are; by default where the trainer puts them.

    Returns
    -------
    transformers.TrainerCallback
        ``GRPOTrainer(..., callbacks=[trl_callback(log=wandb.log)])``. Its `watch` holds what was read so far.
    """
    try:
        from transformers import TrainerCallback
    except ImportError:
        raise DependencyError("transformers is missing: pip install trl") from None

    class DoctorCallback(TrainerCallback):  # type: ignore[misc]
        """Reads the completions of the step before; TRL writes them after its own callbacks have logged."""

        watch: Watch | None = None

        def __init__(self) -> None:
            self._told: set[int | None] = set()

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            self._look(args, state)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            self._look(args, state)

        def _look(self, args: Any, state: Any) -> None:
            if not state.is_world_process_zero:
                return
            if self.watch is None:
                where = Path(args.output_dir) / "completions" if folder is None else Path(folder)
                self.watch = Watch(where, settings=Settings(value_range))
            if not self.watch.poll():
                return
            report = self.watch.report()
            if page is not None:
                check_destinations({f"input {file}": file for file in report.rollouts.files}, {"page": page})
                write_whole(page, report.to_html())
            for step in report.overall["steps"]:
                if step["step"] in self._told:
                    continue
                self._told.add(step["step"])
                if log is not None:
                    names = ("no_gradient", "all_zero", "all_one", "std", "mean")
                    log({f"legato/{name}": step[name] for name in names if step[name] is not None}, step=step["step"])

    return DoctorCallback()


def logged(reward: Callable[..., Any], path: PathLike) -> Callable[..., Any]:
    """Wrap a reward function of TRL so that its rewards go to a file of lines too.

    A reward of None, "does not apply", is not kept. The step is the trainer's, where it tells.

    Examples
    --------
    ``GRPOTrainer(..., reward_funcs=[logged(accuracy, "rollouts.jsonl")])``
    """

    def function(prompts: list[Any], completions: list[Any], **columns: Any) -> Any:
        rewards = reward(prompts=prompts, completions=completions, **columns)
        state = columns.get("trainer_state")
        step = {} if state is None else {"step": int(state.global_step)}
        rows = [
            {**step, "prompt": prompt, "reward": float(value)}
            for prompt, value in zip(prompts, rewards, strict=True)
            if value is not None
        ]
        _append(path, rows)
        return rewards

    function.__name__ = getattr(reward, "__name__", "reward")
    return function


def verl_reward(compute_score: Callable[..., Any], path: PathLike) -> Callable[..., Any]:
    """Wrap verl's custom reward function so that its scores go to a file of lines too.

    A file that ``custom_reward_function.path`` names holds ``compute_score = verl_reward(my_score, "rollouts.jsonl")``.
    verl calls it with data_source, solution_str, ground_truth and extra_info; prompts are told apart by the data set's
    index in extra_info, else by the ground truth. The step is extra_info's, where it tells. Scores may be numbers or
    dictionaries with "score". Each line is added in one write, so that several workers may share a file.
    """

    def function(data_source: Any, solution_str: Any, ground_truth: Any, extra_info: Any = None, **columns: Any) -> Any:
        score = compute_score(
            data_source=data_source,
            solution_str=solution_str,
            ground_truth=ground_truth,
            extra_info=extra_info,
            **columns,
        )
        extra = extra_info or {}
        key = {name: extra[name] for name in ("split", "index") if extra.get(name) is not None}
        if "index" not in key:
            key["ground_truth"] = str(ground_truth)
        row: dict[str, Any] = {"prompt": {"data_source": data_source, **key}}
        steps = (extra[name] for name in ("global_step", "global_steps", "step") if extra.get(name) is not None)
        for step in steps:
            row["step"] = int(step)
            break
        row["reward"] = float(score["score"] if isinstance(score, dict) else score)
        _append(path, [row])
        return score

    function.__name__ = getattr(compute_score, "__name__", "compute_score")
    return function


def _append(path: PathLike, rows: list[dict[str, Any]]) -> None:
    append_lines(path, "".join(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in rows))


def _plain(value: Any) -> Any:
    """Numbers of NumPy and torch."""
    return value.item() if hasattr(value, "item") else str(value)
