"""The command itself: help without heavy imports, errors as one line."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from uscl.cli import main as cli
from uscl.errors import LeaseHeld, SpecError

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from uscl.cli.main import main; sys.argv = ['uscl', '--help']\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = 'torch ray mlflow optuna pydantic numpy pyarrow rich yaml'.split()\n"
        "print('loaded:', [name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.rstrip().endswith("loaded: []")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in ran.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_listed_help_is_the_commands_own(name):
    module, attribute = cli.COMMANDS[name].where.split(":")
    pytest.importorskip(f"uscl.cli.{module}")
    command = getattr(importlib.import_module(f"uscl.cli.{module}"), attribute)
    assert command.help.splitlines()[0] == cli.COMMANDS[name].help


def test_importing_the_sweep_command_imports_neither_torch_nor_ray_nor_mlflow():
    code = "import sys, uscl.cli.sweep; print([name for name in ('torch', 'ray', 'mlflow') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [(SpecError("x.yaml:1: wrong"), 2), (LeaseHeld("held by 17 on a"), 4), (KeyboardInterrupt(), 130)],
)
def test_errors_of_a_user_are_one_line_and_an_exit_code(monkeypatch, capsys, error, code):
    def raising(**options):
        raise error

    monkeypatch.setattr(cli.uscl, "main", raising)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    said = capsys.readouterr()
    assert said.out == "" and said.err == f"uscl: {str(error) or 'interrupted'}\n"


def test_a_bug_keeps_its_traceback(monkeypatch):
    def raising(**options):
        raise ZeroDivisionError

    monkeypatch.setattr(cli.uscl, "main", raising)
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_an_unknown_command_and_an_unknown_option(monkeypatch, capsys):
    for arguments, said in [(["swep"], "No such command 'swep'"), (["sweep", "--wrokers"], "No such option")]:
        monkeypatch.setattr(sys, "argv", ["uscl", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2 and said in capsys.readouterr().err


def test_version():
    assert CliRunner().invoke(cli.uscl, ["--version"]).output.startswith("uscl, version ")
