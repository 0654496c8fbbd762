"""`intentstream pseudonym`: tell under which pseudonym a user is known."""

from typing import Annotated

import typer

from stream.cli.options import ConfigFile

app = typer.Typer()


@app.command()
def pseudonym(
    users: Annotated[list[str], typer.Argument(help="User ids.")],
    config: ConfigFile = None,
) -> None:
    """Print each user's pseudonym, one a line, as outputs and state have it."""
    from stream.config.loading import load_settings
    from stream.errors import SettingsError

    settings = load_settings(config)
    pseudonyms = settings.privacy.pseudonyms
    if pseudonyms is None:
        raise SettingsError(
            "privacy.pseudonym_key is not set, so users are known by their own ids: set the key"
            " that the workers have"
        )
    for user in users:
        typer.echo(pseudonyms.of(user))
