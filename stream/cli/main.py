"""The `intentstream` program: finds its commands, runs one, and turns errors into one line.

Every module of this package with a typer `app` is a command, named like the module and described by
the first line of its docstring. Only the module of the command that runs is imported, so `--help`
does not wait for torch.
"""

import ast
import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import IntentStreamError


def command_modules() -> dict[str, tuple[str, str]]:
    """Return {command: (module, one-line description)} of this package, in alphabetical order."""
    commands = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {
            target.id
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        if "app" in names:
            description = (ast.get_docstring(tree) or "").partition("\n")[0]
            description = description.rpartition("`: ")[2]
            commands[path.stem.replace("_", "-")] = (
                f"stream.cli.{path.stem}",
                description[:1].upper() + description[1:],
            )
    return commands


def build(wanted: str | None) -> typer.Typer:
    """Return the program with the command `wanted` ready to run, and all others by name only."""
    program = typer.Typer(
        name="intentstream",
        help="Purchase intent and churn alerts from a shop's event stream.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    program.callback()(_options)
    for name, (module, description) in command_modules().items():
        if name != wanted:
            program.command(name, help=description)(_not_loaded)
            continue
        app: typer.Typer = importlib.import_module(module).app
        if len(app.registered_commands) == 1 and not app.registered_callback:
            (command,) = app.registered_commands
            command.name = name
            program.registered_commands.append(command)
        else:
            app.info.help = app.info.help or description
            program.add_typer(app, name=name)
    return program


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program; exits 1 with one line on an error, 2 on wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    # What Kafka clients log about a missing broker comes as an error too, and is said once.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        build(wanted)(args=list(arguments), prog_name="intentstream")
    except IntentStreamError as error:
        _fail(str(error))
    except Exception as error:
        if not type(error).__module__.startswith("aiokafka."):
            raise
        _fail(
            f"Kafka: {error}; check that the broker runs (`intentstream broker status`) and"
            " --bootstrap-servers"
        )


def _fail(message: str) -> None:
    sys.stderr.write(f"intentstream: {' '.join(message.split())}\n")
    sys.exit(1)


def _not_loaded() -> None:
    raise AssertionError("this command was not asked for")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"intentstream {version('intentstream')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options of the program itself."""


if __name__ == "__main__":
    main()
