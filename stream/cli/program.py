"""The commands of `intentstream`: finds them, runs one, and turns its errors into one line.

Every module of this package with a typer `app` is a command, named like the module and described by
the first line of its docstring. Only the module of the command that runs is imported, so `--help`
does not wait for torch.
"""

import ast
import importlib
import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import IntentStreamError
from schemas.extras import missing
from stream.cli.ending import fail


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


def run(arguments: Sequence[str]) -> None:
    """Run the program; raises SystemExit: 0, 1 with one line on an error, 2 on wrong usage."""
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    # What Kafka clients log about a missing broker comes as an error too, and is said once.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        build(wanted)(args=list(arguments), prog_name="intentstream")
    except IntentStreamError as error:
        fail(f"{error}{_elsewhere(error)}")
    except ModuleNotFoundError as error:
        without = missing(error)
        if without is None:
            raise
        fail(str(without))
    except Exception as error:
        if not type(error).__module__.startswith("aiokafka."):
            raise
        from stream.config.secure_settings import KafkaSettings
        from stream.kafka.diagnosis import denied

        fail(
            denied(error, KafkaSettings())
            or f"Kafka: {error}; check that the broker runs (`intentstream broker status`) and"
            " --bootstrap-servers"
        )


def _elsewhere(error: IntentStreamError) -> str:
    """Where a local broker runs, for who looked on another data folder for one."""
    from stream.errors import NoBrokerNamed

    if not isinstance(error, NoBrokerNamed):
        return ""
    from stream.broker.elsewhere import running_brokers

    return "".join(
        f"; one runs with its data in {folder}: pass --bootstrap-servers {servers}"
        + (f", or --data-dir {folder.parent}" if folder.name == "kafka" else "")
        for servers, folder in running_brokers()
    )


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
