"""``legato rasp``: the RASP language at the terminal and in scripts, length tried, interpolation, the tasks."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from legato._printing import printable, say
from legato.cli.parsing import Parser

if TYPE_CHECKING:
    from legato.rasp import Interpreter

NAME = "rasp"
HELP = "run RASP programs: a prompt, or a file; study length generalization"
DESCRIPTION = (
    "Programs of select and aggregate. Without COMMAND run is meant, so that `legato rasp` alone is a prompt and\n"
    "`legato rasp FILE` runs a file."
)
EXAMPLES = (
    "legato rasp",
    "legato rasp run program.rasp --input hello",
    "legato rasp run --evaluate reverse --input hello",
    "legato rasp study --tasks sort parity --output study/",
)
_RUN = (
    "The RASP language of Weiss, Goldberg and Yahav. Without FILE a prompt, or the statements of a pipe; with FILE\n"
    "its statements. What they show goes to stdout as it comes; errors go to stderr, and the exit code is then 1\n"
    "(FILE ends at the first, a pipe goes on). Statements end with a semicolon. At the prompt: help,\n"
    'set example "hello", show example, examples on|off, full seq display on|off, load "file";,\n'
    "draw(expression);, exit; Tab completes."
)
_HELP = """\
tokens, indices, length                     what every input has; tokens_int, tokens_float, tokens_bool, tokens_asis
s = select(tokens, tokens, ==);             a selector: which keys (first) each query (second) looks at; == != < <= > >=
aggregate(s, indices, 0);                   the mean of what is selected, or the default
selector_width(s); sort(tokens, tokens);    the library: count, contains, max, min, shift, has_focus, reverse, ...
def f(x) { y = x + 1; return y; }           functions; for x in [1, 2] { ... } loops; [x for x in range(3)] lists
reverse("abc");                             a sequence on an input of its own
set example "abc"    show example           what sequences and selectors are shown on; set example [1, 2, 3]
examples off         full seq display on    whether, and how
load "file";         draw(reverse);         statements of file.rasp; the program as a picture
out                                         what the last statement gave
exit                                        or Ctrl-D; Ctrl-C drops the statement that is typed or evaluated"""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments of the command."""
    commands = parser.add_subparsers(otherwise="run")
    program = commands.add_parser(
        "run", help="a file, or a prompt without one", description=_RUN, examples=EXAMPLES[:3]
    )
    program.add_argument("source", metavar="FILE", type=Path, nargs="?", help="a .rasp file to run instead of a prompt")
    program.add_argument(
        "--input",
        metavar="TEXT",
        help='the example that is shown: characters, or a list as "[1, 2.5, 3]" (default: hello)',
    )
    program.add_argument("--evaluate", metavar="EXPRESSION", help="print one expression on the input, after FILE")
    program.add_argument("--analyze", metavar="EXPRESSION", help="print its attention layers and heads")
    program.set_defaults(rasp=_program)

    study = commands.add_parser(
        "study",
        help="try which tasks a transformer learns for longer inputs than it saw",
        description=(
            "Train small transformers on each task, test them on longer instances, and write study.json, study.svg\n"
            "and study.md (tens of CPU minutes; needs torch and matplotlib). trainings.jsonl beside them keeps each\n"
            "training as it ends: the same command goes on where it was stopped."
        ),
        examples=EXAMPLES[3:],
    )
    study.add_argument("--tasks", nargs="+", metavar="TASK", help="of legato.rasp.tasks (default: eleven of them)")
    study.add_argument("--steps", type=int, metavar="N", help="of each training (default: the task's)")
    study.add_argument("--train-length", type=int, metavar="N", help="longest of the training (default: the task's)")
    study.add_argument("--layers", type=int, metavar="N", help="of each network (default: the task's, 2 to 4)")
    study.add_argument("--heads", type=int, metavar="N", help="of each layer (default: the task's, 1 or 2)")
    study.add_argument("--supply", type=int, metavar="N", help="symbols or hints to draw from (default: the task's)")
    study.add_argument(
        "--scaled", action=argparse.BooleanOptionalAction,
        help="scale attention by the logarithm of the tokens that are seen (default: the task's)",
    )  # fmt: skip
    study.add_argument(
        "--multiples", type=float, nargs="+", metavar="M", help="of that length, tested (default: 0.5 1 1.5 2)"
    )
    study.add_argument("--seeds", type=int, nargs="+", metavar="N", help="one for each network (default: 1 2 3)")
    study.add_argument("--quick", action="store_true", help="one seed, lengths to 10, 1000 steps: minutes")
    study.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="of the files (default: here)")
    study.set_defaults(rasp=_study)

    interpolation = commands.add_parser(
        "interpolation",
        help="the counter-example to minimum-degree interpolation, exact and by trained networks",
        description=(
            "The AND of 12 bits, of which the last five are 1 in training: what the interpolator of least degree,\n"
            "small trained networks and the RASP-L program say of all inputs (seconds)."
        ),
        examples=("legato rasp interpolation",),
    )
    interpolation.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="(default: 1 2 3)")
    interpolation.set_defaults(rasp=_interpolation)

    tasks = commands.add_parser(
        "tasks",
        help="list the tasks of the study",
        description="List the tasks: whether length generalization is expected, and an instance of each.",
        examples=("legato rasp tasks",),
    )
    tasks.set_defaults(rasp=_tasks)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    command: Callable[[argparse.Namespace], int] = arguments.rasp
    return command(arguments)


def _program(arguments: argparse.Namespace) -> int:
    from legato._files import read_text
    from legato.errors import ArgumentError
    from legato.rasp import Interpreter, LanguageError

    interpreter = Interpreter()
    if arguments.input is not None:
        if not arguments.input:
            raise ArgumentError("--input: expected at least one token")
        interpreter.example = _example(interpreter, arguments.input)
    try:
        if arguments.source is not None:
            interpreter.run(read_text(arguments.source), show=say)
        if arguments.evaluate is not None:
            say(interpreter.evaluate(arguments.evaluate, interpreter.example))
        if arguments.analyze is not None:
            found = interpreter.analyze(arguments.analyze)
            say(f"layers {found.n_layers}, heads {found.max_heads}, heads per layer {found.heads_per_layer}")
    except LanguageError as error:
        say(f"{printable(arguments.source or 'expression')}: {error}", file=sys.stderr)
        return 1
    if arguments.source is None and arguments.evaluate is None and arguments.analyze is None:
        return _prompt(interpreter)
    return 0


def _example(interpreter: Interpreter, text: str) -> str | list[object]:
    """Return the tokens of --input: a list of the language's numbers and strings, or else characters."""
    from legato.errors import ArgumentError, LegatoError

    if not text.startswith("["):
        return text
    try:
        found = interpreter.value(text)
    except LegatoError:
        return text
    if not isinstance(found, list) or not found or not all(isinstance(x, str | int | float) for x in found):
        raise ArgumentError(f"--input: expected a list of numbers or strings, got {printable(text)}")
    return found


def _study(arguments: argparse.Namespace) -> int:
    from legato.rasp import study

    given = {
        "steps": arguments.steps,
        "train_length": arguments.train_length,
        "layers": arguments.layers,
        "heads": arguments.heads,
        "supply": arguments.supply,
        "scaled": arguments.scaled,
        "multiples": None if arguments.multiples is None else tuple(arguments.multiples),
        "seeds": None if arguments.seeds is None else tuple(arguments.seeds),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    recipes = {}
    for name in arguments.tasks or study.RECIPES:
        recipe = study.RECIPES.get(name, study.Settings())
        recipes[name] = dataclasses.replace(recipe.quick() if arguments.quick else recipe, **chosen)
    found = study.run(
        recipes, report=lambda line: say(line, file=sys.stderr), kept=arguments.output / "trainings.jsonl"
    )
    say(found.table())
    say(found.verdict())
    say(found.cost())
    for path in found.save(arguments.output):
        say(printable(path))
    return 0


def _interpolation(arguments: argparse.Namespace) -> int:
    from legato.rasp.interpolation import trained_counter_example

    found = trained_counter_example(seeds=tuple(arguments.seeds))
    say(found.table())
    say(found.verdict())
    return 0


def _tasks(_arguments: argparse.Namespace) -> int:
    from legato.rasp import study, tasks

    say(f"{'task':<24}{'expected':<10}{'by default':<12}an instance")
    for name, task in tasks.ALL.items():
        prompt, answer = task.sample(length=4, rows=1, seed=0).row(0)
        shown = f"{' '.join(map(str, prompt))} -> {' '.join(map(str, answer))}"
        say(f"{name:<24}{'yes' if task.generalizes else 'no':<10}{'yes' if name in study.RECIPES else '':<12}{shown}")
    return 0


@contextlib.contextmanager
def _history(interpreter: Interpreter) -> Iterator[None]:
    """Editing and completion for input(), with the lines of earlier sessions."""
    import readline

    def complete(text: str, at: int) -> str | None:
        found = [name for name in interpreter.names() if name.startswith(text)]
        return found[at] if at < len(found) else None

    say('RASP: statements end with ; and "exit" leaves; "help" explains')
    say(f"running example is: {printable(interpreter.example)}")
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "legato"
    path = folder / "rasp_history"
    with contextlib.suppress(OSError):  # no history yet, or none that can be read: the prompt works without
        readline.read_history_file(path)
    readline.set_history_length(1000)
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n;,()[]{}=<>!+-*/%^\"'")
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        readline.set_completer(None)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)


def _prompt(interpreter: Interpreter) -> int:
    """Read statements until exit or end of file; an unfinished one goes on in the next line.

    At a terminal the exit code is 0; of a pipe it is 1 where a statement was an error.
    """
    from legato.errors import LegatoError
    from legato.rasp.language import IncompleteSource

    at_terminal = sys.stdin.isatty()
    errors = sys.stdout if at_terminal else sys.stderr
    failed = False
    waiting = ""
    with _history(interpreter) if at_terminal else contextlib.nullcontext():
        while not interpreter.finished:
            try:
                line = input((".. " if waiting else ">> ") if at_terminal else "")
                if not waiting and line.strip().rstrip(";") == "help":
                    say(_HELP)
                    continue
                waiting = f"{waiting}\n{line}" if waiting else line
                if waiting.strip():
                    interpreter.run(waiting, show=say)
                waiting = ""
            except IncompleteSource as error:
                unfinished, waiting = error, error.rest
            except EOFError:
                if at_terminal:
                    say()
                elif waiting:
                    say(unfinished, file=errors)
                    failed = True
                break
            except KeyboardInterrupt:
                say()
                waiting = ""
            except LegatoError as error:
                say(error, file=errors)
                failed, waiting = True, ""
    return 1 if failed and not at_terminal else 0
