"""The `legato` command as a newcomer meets it: help, examples, suggestions, one table of exit codes."""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from legato._extras import requirements
from legato._log import LOG
from legato.cli import _parser, main
from legato.cli.info import _PACKAGES
from legato.cli.parsing import EXIT_CODES, Parser
from legato.errors import InputError

DOCS = Path(__file__).parents[1] / "docs"


def parsers(parser: Parser) -> Iterator[Parser]:
    """The parser and those of all its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


ALL = list(parsers(_parser()))
OFFERED = pytest.mark.parametrize("parser", ALL, ids=[parser.prog for parser in ALL])


# --- help ---------------------------------------------------------------------------------------


@OFFERED
def test_every_help_has_examples_that_parse_and_the_exit_codes(parser: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parser.format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert parser.examples
    for code, meaning in EXIT_CODES.items():
        assert f"  {code:<5}{meaning.split(';')[0][:40]}" in text
    for example in parser.examples:
        assert f"\n  {example}\n" in text
        words = shlex.split(example.partition(" > ")[0])
        assert words[0] == "legato"
        if "COMMAND" not in words:
            assert _parser().parse_args(words[1:]).run


def test_the_docs_have_the_same_exit_codes() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (DOCS / "command.md").read_text(), re.MULTILINE)
    assert [(int(code), meaning) for code, meaning in rows] == list(EXIT_CODES.items())


@pytest.mark.parametrize("words", [[], ["rft"], ["diffusion"]], ids=str)
def test_a_bare_command_helps(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    bare = capsys.readouterr()
    assert main([*words, "--help"]) == 0
    assert capsys.readouterr() == bare
    assert bare.out.startswith("usage: legato")
    assert bare.err == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_color_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def said() -> tuple[str, str]:
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as terminal:
            terminal.setattr(sys, "stdout", out)
            terminal.setattr(sys, "stderr", err)
            main(["--help"])
            main(["nonsense"])
        return out.getvalue(), err.getvalue()

    out, err = said()
    assert "\x1b[1musage:\x1b[0m" in out
    assert err.startswith("legato: \x1b[1;31merror:\x1b[0m ")
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as plain:
            plain.setenv(name, value)
            assert "\x1b" not in "".join(said())


# --- what was meant -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stabilise a b", "invalid choice: 'stabilise' (did you mean 'stabilize'?) (see legato --help)"),
        ("stabilize a b --encoder-prest fast", "'--encoder-preset'?) (see legato stabilize --help)"),
        ("stabilize --crops 0.1", "unrecognized option: --crops (did you mean '--crop'?)"),
        ("rft scan --htm page.html", "(did you mean '--html'?) (see legato rft scan --help)"),
        ("rft scna x", "(did you mean 'scan'?) (see legato rft --help)"),
        ("diffusion reproduce equivalance", "(did you mean 'equivalence'?) (see legato diffusion reproduce --help)"),
        ("rasp studdy", "studdy: neither a command nor a file (did you mean 'study'?) (see legato rasp --help)"),
        ("rasp study --task sort", "(did you mean '--tasks'?) (see legato rasp study --help)"),
        ("demo folder --kind jog", "expected one of still, walk, pan, run, zoom"),
        ("info extra", "unrecognized argument: extra"),
    ],
)
def test_a_mistake_is_told_with_what_may_have_been_meant(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_an_option_does_not_eat_what_the_command_waits_for() -> None:
    def parsed(words: str) -> argparse.Namespace:
        return _parser().parse_args(words.split())

    for name in ("compare", "report", "plot"):
        for words, value in (
            (f"stabilize --{name} a b", True),
            (f"stabilize a b --{name}", True),
            (f"stabilize a b --{name} f", "f"),
            (f"stabilize --{name}=f a b", "f"),
        ):
            found = parsed(words)
            assert found.paths == [Path("a"), Path("b")], words
            assert vars(found)[name] == value, words
        found = parsed(f"render --{name} a m b")
        assert (found.source, found.motion, found.destination) == (Path("a"), Path("m"), Path("b"))


def test_a_wrong_number_of_names_is_told_with_the_way_to_name_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stabilize", "--compare", "pair.mp4", "in.mp4", "out.mp4"]) == 2
    assert "expected IN and OUT, got 3 names" in capsys.readouterr().err


# --- exit codes ---------------------------------------------------------------------------------

MISSING = {
    "stabilize": "absent.mp4 out.mp4",
    "live": "--input absent.mp4 --output out.mkv",
    "analyze": "absent.mp4 -o motion.jsonl",
    "render": "absent.mp4 absent.jsonl out.mp4",
    "view": "absent.json --no-open",
    "evaluate": "absent.mp4 absent.mp4",
    "rasp": "absent.rasp",
    "rft scan": "absent.jsonl",
    "rft watch": "absent --once",
    "rft select": "absent.jsonl --out sets",
    "rft rank": "absent.jsonl",
    "rft compare": "absent.jsonl absent.jsonl",
}


@pytest.mark.parametrize("command", MISSING)
def test_a_missing_file_is_the_same_code_everywhere(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("av", "lark", "pyarrow"):
        pytest.importorskip(package, reason="what reads the file")
    monkeypatch.chdir(tmp_path)
    assert main([*command.split(), *MISSING[command].split()]) == 1
    err = capsys.readouterr().err
    assert "absent" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", ["rft scan absent.jsonl", "diffusion reproduce equivalence --chains 1", "rasp run absent.rasp"]
)
@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_error_of_any_command(words: str, place: str) -> None:
    pytest.importorskip("pyarrow", reason="needs PyArrow")
    given = ["--debug", *words.split()] if place == "before" else [*words.split(), "--debug"]
    with pytest.raises(Exception, match=r"absent|chains"):
        main(given)


def test_what_cannot_be_written_is_found_before_the_input_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    monkeypatch.chdir(tmp_path)
    for words in (
        "stabilize absent.mp4 out.xyz",
        "stabilize absent.mp4 out.mp4 --compare=pair.xyz",
        "stabilize absent.mp4 out.mp4 --plot=p.txt",
        "live --input absent.mp4 --output out.xyz",
        "diffusion reproduce all --plot p.txt",
    ):
        assert main(words.split()) == 2, words
        assert "absent" not in capsys.readouterr().err.replace("absent.mp4: unknown", ""), words


# --- rasp, info, completion, log ----------------------------------------------------------------


def test_rasp_runs_its_example(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lark", reason="needs lark")
    example = next(example for parser in ALL for example in parser.examples if "--evaluate" in example)
    assert main(shlex.split(example)[1:]) == 0
    assert capsys.readouterr().out == "['o', 'l', 'l', 'e', 'h']\n"


def test_the_doctor_says_what_to_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow", reason="needs PyArrow")
    monkeypatch.chdir(tmp_path)
    Path("log.jsonl").write_text('{"prompt": "a", "reward": 0}\n{"prompt": "a", "reward": 1}\n')
    assert main(["rft", "scan", "log.jsonl", "--html", "page.html"]) == 0
    assert capsys.readouterr().out.endswith("\nnow open page.html\n")
    assert main(["rft", "scan", "log.jsonl", "--html", "page.html", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["overall"]["prompts"] == 1


def test_rasp_lists_its_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    from legato.rasp import tasks

    assert main(["rasp", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(tasks.ALL)
    assert "106 109 -1 -> 106 107 108 109 -2" in lines[1]


def test_info_names_every_package_of_every_extra(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["enables"].keys() <= facts["packages"].keys()
    known = {name for module, package in _PACKAGES.items() for name in (module, *package.distributions)}
    for extra in ("video", "solvers", "diffusion", "rasp", "study", "rft", "completion", "cuda12", "cuda13"):
        for requirement in requirements(extra):
            assert re.split(r"[^\w-]", requirement)[0] in known, requirement


def test_info_says_how_to_get_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from legato.cli import info

    monkeypatch.setitem(info._PACKAGES, "no_such_package", info._Package("rasp", "wonders"))
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"no_such_package +missing +wonders", out)
    assert re.search(r"no_such_package: pip install .*(lark|rasp)", out)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="needs shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("stabilize", "--encoder-preset", "counterexample1", "lanczos"):
        assert word in script


def test_completion_without_shtab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "shtab is needed here: pip install" in capsys.readouterr().err


def test_the_log_is_silent_until_it_is_asked_for() -> None:
    """Also after a command of this process has shown it."""
    with pytest.raises(InputError):
        main(["rasp", "run", "absent.rasp", "--debug"])
    assert [type(handler) for handler in LOG.handlers] == [logging.NullHandler]
    assert LOG.level == logging.NOTSET
    assert LOG is logging.getLogger("legato")


def test_the_log_shows_any_name_as_it_would_be_printed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "legato"):
        LOG.debug("stabilize %s -> %s, %d frames", Path("caf\udce9.mp4"), "a\x1b[2Jb", 3)
    assert caplog.messages == [r"stabilize caf\udce9.mp4 -> a\x1b[2Jb, 3 frames"]
