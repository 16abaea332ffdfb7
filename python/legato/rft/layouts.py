"""Which columns of a file say what: names that trainers and evaluation tools write, and what to do with lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from legato._scalars import as_choice, shown
from legato.errors import ArgumentError, InputError

__all__ = ["Columns", "Field", "Roles", "choose_columns", "fields_of_schema", "prompt_candidates"]

# Ids before texts: of two columns that both repeat, the id is the shorter key.
PROMPT_IDS = (
    "prompt_id", "uid", "index", "task_id", "doc_id", "example_id", "problem_id", "question_id", "task_index",
    "_ng_task_index", "_task_index",
)  # fmt: skip
PROMPT_TEXTS = (
    "prompt", "input", "input_prompt", "question", "problem", "instruction", "query", "messages", "prompts",
    "responses_create_params.input",
)  # fmt: skip
REWARDS = (
    "reward", "score", "rewards", "scores", "total_reward", "final_reward", "passed", "correct", "is_correct",
    "acc", "accuracy", "exact_match", "success", "resolved", "plus_status", "base_status",
    "graded_list", "correctness_math_verify", "correctness",
)  # fmt: skip
STEPS = ("step", "global_step", "training_step", "train_step", "trainer_step", "gen_step", "_step")
# Columns of which each row has one entry a rollout where it has one a prompt.
_ANSWERS = {"completions", "responses", "outputs", "generations", "samples", "answers", "solutions", "texts"}
_ANSWERS |= {"output_list", "code_list"}
_TRL = ({"prompt", "completion", "advantage"}, {"prompt", "completion", "advantages"})  # TRL's own; ms-swift's

Kind = Literal["number", "boolean", "text", "list", "object", "null", "other"]
ListRule: TypeAlias = Literal["auto", "sum", "each"]
LIST_RULES: tuple[ListRule, ...] = get_args(ListRule)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns to read; None: guess. A name inside of another is written with a dot: ``metrics.reward``.

    Attributes
    ----------
    prompt : str, optional
        By default the first there is of prompt_id, uid, index, task_id, doc_id, ..., prompt, input, question, ...; an
        id that is another one in every row gives way to a text that repeats.
    reward : str, optional
        By default reward, score, passed, ... at the top or inside; in TRL's layout the sum of all columns of fractions
        but the advantage, without those that are NaN in a row, as its trainer adds reward functions of weight 1. Names
        with commas are added.
    logprobs : str, optional
        Lists of the log-probabilities of each rollout's tokens; not read unless named.
    step : str, optional
        By default step, global_step, ... or a number in the file's name; "none": rollouts of all steps are one group.
    steps : (int, int), optional
        First and last step to count, both included.
    lists : {"auto", "sum", "each"}
        What a list of rewards is: one rollout's, token by token, to be added ("sum"), or one reward for each rollout of
        the row's prompt ("each"). By default "each" where the row has as many completions, or the column's name is a
        plural; lists of one are numbers.

    See Also
    --------
    scan : Say what share of groups has no gradient, and judge each prompt by the standard deviation of its rewards.

    Examples
    --------
    >>> from legato import rft
    >>> rows = [{"q": "a", "points": 0.0}, {"q": "a", "points": 1.0}]
    >>> rft.scan(rows, columns=rft.Columns(prompt="q", reward="points")).mean.tolist()
    [0.5]
    """

    prompt: str | None = None
    reward: str | None = None
    logprobs: str | None = None
    step: str | None = None
    steps: tuple[int, int] | None = None
    lists: ListRule = "auto"

    def __post_init__(self) -> None:
        for name in ("prompt", "reward", "logprobs", "step"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise ArgumentError(f"{name}: expected the name of a column, got {shown(value)}")
        as_choice("lists", self.lists, LIST_RULES)


@dataclass(frozen=True, slots=True)
class Field:
    """Where a column is, from the outermost name inwards, and what it seems to hold."""

    path: tuple[str, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Roles:
    """Which columns say what; partial: a reward is the sum of those of its columns that are not NaN."""

    prompt: str
    rewards: tuple[str, ...]
    partial: bool
    step: str | None
    logprobs: str | None
    lists: Literal["sum", "each"]

    @property
    def columns(self) -> list[str]:
        """Names of all columns that are read."""
        named = [self.prompt, *self.rewards, self.step, self.logprobs]
        return list(dict.fromkeys(name for name in named if name is not None))


def fields_of_schema(schema: Any, outer: tuple[str, ...] = ()) -> dict[str, Field]:
    """Return the columns of an Arrow schema or struct, those inside of structs with dotted names."""
    found = {}
    for field in schema:
        path = (*outer, field.name)
        kind = _kind_of(field.type)
        found[".".join(path)] = Field(path, kind)
        if kind == "object" and len(path) < 4:
            inner = [field.type.field(i) for i in range(field.type.num_fields)]
            found = {**fields_of_schema(inner, path), **found}
    return found


def _kind_of(kind: Any) -> Kind:
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if t.is_floating(kind) or t.is_integer(kind) or t.is_decimal(kind):
        return "number"
    if t.is_boolean(kind):
        return "boolean"
    if t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind):
        return "text"
    if t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind):
        return "list"
    if t.is_struct(kind):
        return "object"
    return "null" if t.is_null(kind) else "other"


def prompt_candidates(fields: Mapping[str, Field], columns: Columns) -> list[str]:
    """Return the columns that may hold the prompt, the likeliest first."""
    if columns.prompt is not None:
        return [columns.prompt]
    known = (*PROMPT_IDS, *PROMPT_TEXTS)
    found = [name for name in known if name in fields and fields[name].kind != "other"]
    if not found:
        found = [name for last in known for name in fields if len(fields[name].path) > 1 and name.endswith("." + last)]
    return found


def choose_columns(
    fields: Mapping[str, Field],
    columns: Columns,
    name: str,
    prompt: str | None,
    metrics: Iterable[str] = (),
    steps: Iterable[str] = (),
) -> Roles:
    """Decide what to read.

    Parameters
    ----------
    fields : mapping
        The columns there are.
    columns : Columns
        What was asked for.
    name : str
        Of the file, for messages.
    prompt : str or None
        The prompt's column, chosen among `prompt_candidates`; None if there is none.
    metrics : iterable of str
        Columns that the file itself names as its metrics.
    steps : iterable of str
        Columns of texts that are whole numbers, which a step may be, too.
    """
    there = ", ".join(n for n in fields if len(fields[n].path) == 1) or "none"
    if prompt is None:
        other = next((n for n, f in fields.items() if f.kind in ("text", "list") and n not in REWARDS), "NAME")
        raise InputError(
            f"{name}: no prompt column is known by its name among these: {there}; say which one it is with "
            f"--prompt-col (such as --prompt-col {other})"
        )
    rewards, partial = _reward_columns(fields, columns, metrics)
    if not rewards:
        other = next((n for n, f in fields.items() if f.kind == "number" and n not in (*PROMPT_IDS, *STEPS)), "NAME")
        raise InputError(
            f"{name}: no reward column is known by its name among these: {there}; say which one it is with "
            f"--reward-col (such as --reward-col {other})"
        )
    step = columns.step
    if step is None:
        whole = set(steps)
        usable = {
            n for n in STEPS if n in fields and (fields[n].kind == "number" or n in whole or columns.steps is not None)
        }
        step = next((n for n in STEPS if n in usable and n != prompt), None)
    elif step == "none":
        step = None
    roles = Roles(prompt, tuple(rewards), partial, step, columns.logprobs, _list_rule(fields, columns, rewards))
    for column in roles.columns:
        if column not in fields:
            raise InputError(f"{name}: no column {column!r}; there are {there}")
    return roles


def _reward_columns(fields: Mapping[str, Field], columns: Columns, metrics: Iterable[str]) -> tuple[list[str], bool]:
    if columns.reward is not None:
        return [part.strip() for part in columns.reward.split(",")], False
    usable = {n for n, f in fields.items() if f.kind not in ("object", "other")}
    for column in (*(m for m in metrics if m not in PROMPT_IDS), *REWARDS):
        if column in usable and len(fields[column].path) == 1:
            return [column], False
    for trainer in _TRL:
        found = [n for n, f in fields.items() if f.kind == "number" and len(f.path) == 1]
        found = [n for n in found if n not in {*trainer, *STEPS, "entropy"}]
        if found and set(fields) >= trainer:
            return found, True
    scored = [n for n in usable if fields[n].path[0] == "scores" and len(fields[n].path) == 3 and n.endswith(".value")]
    if scored:  # Inspect's, one for each scorer
        return [min(scored)], False
    for last in REWARDS:
        inside = [n for n in usable if len(fields[n].path) > 1 and fields[n].path[-1] == last]
        if inside:
            return [min(inside, key=lambda n: (len(fields[n].path), n))], False
    return [], False


def _list_rule(fields: Mapping[str, Field], columns: Columns, rewards: list[str]) -> Literal["sum", "each"]:
    if columns.lists != "auto":
        return columns.lists
    answers = any(n in _ANSWERS and f.kind == "list" for n, f in fields.items())
    return "each" if answers or all(n.rpartition(".")[2] in ("rewards", "scores") for n in rewards) else "sum"
