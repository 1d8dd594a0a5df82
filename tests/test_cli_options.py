"""Options come from the fields of settings, and options that were renamed work and warn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner, Result

from spring_integrations.cli import app
from spring_integrations.cli.app import _Commands
from spring_integrations.cli.old_names import accepts_old
from spring_integrations.cli.options import takes_settings
from spring_integrations.errors import SettingsError
from spring_integrations.training import TrainConfig
from spring_integrations.training.joint import JointConfig

Colour = Literal["red", "blue"]


@dataclass(frozen=True)
class Settings:
    """One field of every kind."""

    count: int = field(default=3, metadata={"help": "How many."})
    rate: float | None = None
    on: bool = False
    off: bool = True
    colour: Colour | None = None
    size: str = field(default="small", metadata={"choices": Literal["small", "large"]})
    file: Path | None = None
    ks: tuple[int, ...] | None = None
    colours: tuple[Colour, ...] = ("red",)
    folders: Mapping[str, Path] = field(default_factory=dict)
    num_things: int = field(default=1, metadata={"option": "--things"})

    def __post_init__(self) -> None:
        if self.num_things < 1:
            msg = f"num_things must be at least 1, got {self.num_things}"
            raise SettingsError(msg)


def run(kind: Any, *arguments: object) -> tuple[Result, list[Any]]:
    """Runs a command with one argument and the settings; returns what it was called with."""
    seen: list[Any] = []
    made = typer.Typer(cls=_Commands)

    def command(*, name: Annotated[str, typer.Argument()], settings: Any, last: str = "end") -> None:
        seen.extend([name, settings, last])

    command.__annotations__["settings"] = kind
    made.command(cls=accepts_old({"--number": "--count"}, {"--colours": {"azure": "blue"}}))(takes_settings(command))
    made.command("other")(lambda: None)
    done = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(made, ["command", *map(str, arguments)])
    return done, seen


def test_defaults_are_those_of_the_fields() -> None:
    done, seen = run(Settings, "x")
    assert done.exit_code == 0, done.output
    assert seen == ["x", Settings(), "end"]


def test_every_kind_of_field_is_read(tmp_path: Path) -> None:
    given = ["--count", 5, "--rate", 0.5, "--on", "--no-off", "--colour", "blue", "--size", "large"]
    given += ["--file", tmp_path, "--ks", "1, 2,3", "--colours", "blue,red", "--things", 4, "--last", "z"]
    given += ["--folders", f"a={tmp_path}", "--folders", f"b={tmp_path}"]
    done, seen = run(Settings, "x", *given)
    assert done.exit_code == 0, done.output
    folders = {"a": tmp_path, "b": tmp_path}
    made = Settings(5, 0.5, True, False, "blue", "large", tmp_path, (1, 2, 3), ("blue", "red"), folders, 4)
    assert seen == ["x", made, "z"]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--count", "x"], ["--count"]),
        (["--colour", "green"], ["--colour", "red", "blue"]),
        (["--size", "huge"], ["--size", "small", "large"]),
        (["--ks", "1,x"], ["Error: --ks must be whole numbers with commas between them, got '1,x'"]),
        (["--folders", "a"], ["Error: --folders must be NAME=PATH", "'a'"]),
        (["--folders", "a=/no/such"], ["Error: --folders must be NAME=PATH", "'a=/no/such'"]),
        (["--things", "0"], ["Error: --things must be at least 1, got 0"]),
    ],
)
def test_what_cannot_be_read_names_the_option(options: list[str], parts: list[str]) -> None:
    done, seen = run(Settings, "x", *options)
    assert (done.exit_code, seen) == (2, [])
    for part in parts:
        assert part in done.stderr


def test_help_shows_help_and_default() -> None:
    done, _ = run(Settings, "--help")
    assert "How many. [default: 3]" in " ".join(done.stdout.split())


def test_a_new_field_is_an_option_by_itself() -> None:
    more = make_dataclass("more", [("dropout", float, field(default=0.1))], bases=(Settings,), frozen=True)
    done, seen = run(more, "x", "--dropout", 0.5)
    assert done.exit_code == 0, done.output
    assert seen[1] == more(dropout=0.5)


@pytest.mark.parametrize(("command", "settings"), [("train", TrainConfig), ("train-joint", JointConfig)])
def test_every_setting_of_a_training_is_an_option_with_help(command: str, settings: Any) -> None:
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [command, "--help"]).stdout
    for setting in fields(settings):
        assert setting.metadata["help"].split()[0] in shown
        assert f" {setting.metadata.get('option', '--' + setting.name.replace('_', '-'))} " in shown, setting.name


@pytest.mark.parametrize("options", [["--number", "7"], ["--number=7"]])
def test_old_names_of_options_work_and_warn(options: list[str]) -> None:
    done, seen = run(Settings, "x", *options)
    assert done.exit_code == 0, done.output
    assert seen[1] == Settings(count=7)
    assert done.stderr.strip() == "Warning: --number is now --count; the old name goes with the next release."
    assert "--number" not in run(Settings, "--help")[0].stdout


@pytest.mark.parametrize("options", [["--colours", "red,azure"], ["--colours=red,azure"]])
def test_old_values_work_and_warn(options: list[str]) -> None:
    done, seen = run(Settings, "x", *options)
    assert done.exit_code == 0, done.output
    assert seen[1] == Settings(colours=("red", "blue"))
    assert done.stderr.strip().startswith("Warning: --colours azure is now --colours blue;")


def test_new_names_and_arguments_after_two_dashes_are_left_alone() -> None:
    done, seen = run(Settings, "--count", 2, "--colours", "blue", "--", "--number")
    assert (done.exit_code, done.stderr) == (0, "")
    assert seen[:2] == ["--number", Settings(count=2, colours=("blue",))]


def test_an_old_option_without_its_value_is_the_new_options_error() -> None:
    done, seen = run(Settings, "x", "--colours")
    assert (done.exit_code, seen) == (2, [])
