"""`intentstream models`: list, show, sign, verify, promote and roll back published models."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import BootstrapServers, ConfigFile, DataDir, read_settings

app = typer.Typer(no_args_is_help=True)

SHOWN = 4
"""Recalibrations of a model that `show` lists, the newest ones."""

ModelsDir = Annotated[
    Path | None, typer.Option("--models-dir", help="Folder of published models. [var/models]")
]
Version = Annotated[str, typer.Argument(help="A version, as `models list` shows it.")]


@app.command("list")
def list_models(
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
) -> None:
    """List the published models, the oldest first, with their roles where a cluster is known."""
    import asyncio

    from rich.console import Console
    from rich.table import Column, Table

    from models.serving.manifest import Manifest
    from models.serving.registry import Registry
    from models.targets import judged
    from stream.kafka.announce import read_announced
    from stream.pipeline.rollout import Announced

    settings = read_settings(config, bootstrap_servers, data_dir, models_dir=models_dir)
    registry = Registry(settings.models_dir)
    known = bool(settings.kafka.bootstrap_servers)
    announced = asyncio.run(read_announced(settings)) if known else Announced()
    version_column = Column("version", no_wrap=True)
    table = Table(version_column, "role", "architecture", "created (UTC)", "figures")
    found = 0
    for version, manifest in registry.manifests():
        found += 1
        if not isinstance(manifest, Manifest):
            table.add_row(version, announced.role(version), "-", "-", str(manifest))
            continue
        created = datetime.fromtimestamp(manifest.created_at / 1000, UTC)
        figures = ", ".join(
            f"{target.name} {manifest.metrics.get(f'{target.name}.roc_auc', float('nan')):.4f}"
            for target in judged(manifest.targets)
        )
        moment = f"{created:%Y-%m-%d %H:%M:%S}"
        role, architecture = announced.role(version), manifest.architecture
        table.add_row(version, role, architecture, moment, f"ROC-AUC: {figures}")
    if found:
        Console().print(table)
    else:
        typer.echo(f"no model in {registry.folder}: run `intentstream train`", err=True)


@app.command()
def show(
    version: Version,
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    json_out: Annotated[bool, typer.Option("--json", help="The whole manifest as JSON.")] = False,
) -> None:
    """Show a model's card: targets, data, figures, segments, limits."""
    from rich.console import Console
    from rich.markdown import Markdown

    from models.serving.artifact import read_document
    from models.serving.manifest import read_manifest
    from models.serving.registry import Registry
    from models.training.card import CARD_MARKDOWN
    from models.training.train import describe
    from stream.cli.training import figures_table

    registry = Registry(read_settings(config, models_dir=models_dir).models_dir)
    folder = registry.resolve(version)
    manifest = read_manifest(folder)
    if json_out:
        typer.echo(describe(manifest).decode())
        return
    if CARD_MARKDOWN in manifest.digests:
        Console().print(Markdown(read_document(folder, CARD_MARKDOWN, manifest).decode()))
        _show_recalibrations(registry.folder, version)
        return
    window = manifest.window
    typer.echo(f"{manifest.version}: {manifest.architecture}, features {manifest.feature_version}")
    typer.echo(f"chosen {manifest.choice}")
    typer.echo(
        f"trained on {window.events:,} events of {window.users:,} users,"
        f" {_moment(window.first_event)} to {_moment(window.last_event)}"
    )
    for target in manifest.targets:
        typer.echo(f"{target.name}: {target.kind} within {target.horizon_ms / 3_600_000:g} h")
    Console().print(figures_table(manifest))
    _show_recalibrations(registry.folder, version)


def _show_recalibrations(models_dir: Path, version: str) -> None:
    from models.errors import ArtifactError
    from models.serving.recalibration import read_recalibration, versions_of
    from stream.cli.recalibrated import lines_of

    for name in versions_of(models_dir, version)[-SHOWN:]:
        try:
            found = read_recalibration(models_dir, version, name)
        except ArtifactError as error:
            typer.echo(f"recalibration {name}: {error}")
            continue
        days = found.window_ms / 86_400_000
        typer.echo(
            f"recalibration {name}: labels of {days:g} days up to {_moment(found.until)} UTC"
        )
        for line in lines_of(found.findings):
            typer.echo(f"  {line}")


@app.command()
def verify(
    versions: Annotated[
        list[str] | None, typer.Argument(help="Versions to verify. [all published]")
    ] = None,
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    key: Annotated[
        list[Path] | None, typer.Option(help="Public key to trust, beside no others; repeatable.")
    ] = None,
) -> None:
    """Check signature, digests and golden vector of each model; exit 1 if one fails.

    Signatures are checked against models.trusted_keys, where that is set or --key is given.
    """
    from models.errors import ModelError, RegistryError
    from models.serving.registry import Registry
    from models.serving.scorer import Scorer
    from models.serving.signing import read_signature
    from stream.config.trust import manifest_check

    trust = {"trusted_keys": tuple(key)} if key else {}
    settings = read_settings(config, models_dir=models_dir, models=trust)
    registry = Registry(settings.models_dir)
    check = manifest_check(settings.models)
    chosen = versions or registry.versions()
    if not chosen:
        raise RegistryError(f"no model in {registry.folder}: run `intentstream train`")
    failed = 0
    for version in chosen:
        try:
            folder = registry.resolve(version)
            Scorer.load(folder, device, check=check)
            signed = read_signature(folder) is not None
        except ModelError as error:
            failed += 1
            typer.echo(f"{version}: REFUSED: {error}", err=True)
        else:
            signature = "signature right" if check else "signature not checked: no trusted key"
            typer.echo(
                f"{version}: digests and golden vector are right,"
                f" {signature if signed else 'not signed'}"
            )
    if failed:
        raise typer.Exit(1)


@app.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="Private key's file; the public one: PATH.pub.")],
) -> None:
    """Make a key pair: the trainer signs with the private key, workers trust the public one."""
    from models.serving.signing import generate_key

    public = generate_key(path)
    typer.echo(f"private key (models.signing_key, for the trainer alone): {path}")
    typer.echo(f"public key (models.trusted_keys of every worker): {public}")


@app.command()
def sign(
    versions: Annotated[list[str], typer.Argument(help="Versions to sign.")],
    config: ConfigFile = None,
    models_dir: ModelsDir = None,
    key: Annotated[
        Path | None, typer.Option(help="Private key's file. [models.signing_key]")
    ] = None,
) -> None:
    """Sign published models whose digests are right; then announce them anew."""
    from models.errors import SigningError
    from models.serving.registry import Registry
    from stream.config.trust import model_signer

    settings = read_settings(config, models_dir=models_dir, models={"signing_key": key})
    signer = model_signer(settings.models)
    if signer is None:
        raise SigningError("no key to sign with: pass --key or set models.signing_key")
    for version in versions:
        folder = Registry(settings.models_dir).sign(version, signer)
        typer.echo(f"{version}: signed, in {folder}")


@app.command()
def promote(
    version: Version,
    to: Annotated[str, typer.Option("--to", help="champion, canary or shadow.")] = "champion",
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Of the users, for a canary. [0.05]")
    ] = None,
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
    models_dir: ModelsDir = None,
) -> None:
    """Verify a published model and tell running workers its role."""
    import asyncio

    from models.serving.manifest import read_manifest
    from models.serving.registry import Registry
    from models.serving.scorer import Scorer
    from stream.config.trust import manifest_check
    from stream.kafka.announce import announce, read_announced

    train = {"rollout": to, "canary_share": share}
    settings = read_settings(
        config, bootstrap_servers, data_dir, models_dir=models_dir, train=train
    )
    chosen = settings.train
    folder = Registry(settings.models_dir).resolve(version)
    Scorer.load(folder, "cpu", check=manifest_check(settings.models))
    manifest = read_manifest(folder)
    before = asyncio.run(read_announced(settings)).get(version)
    kept = None if before is None else before.recalibration
    asyncio.run(announce(settings, manifest, chosen.rollout, chosen.canary_share, kept))
    of = f" of {chosen.canary_share:.1%} of the users" if chosen.rollout == "canary" else ""
    typer.echo(f"announced {version} as {chosen.rollout}{of} on {settings.topics.models}")


@app.command()
def rollback(
    version: Annotated[
        str | None, typer.Argument(help="Version to take back. [the canary, or the champion]")
    ] = None,
    reason: Annotated[str, typer.Option(help="Told to the workers' logs.")] = "rolled back by hand",
    recalibration: Annotated[
        bool, typer.Option("--recalibration", help="Take back the model's recalibration alone.")
    ] = False,
    models_dir: ModelsDir = None,
    config: ConfigFile = None,
    bootstrap_servers: BootstrapServers = None,
    data_dir: DataDir = None,
) -> None:
    """Take a model's role back: workers go on with the champion before it."""
    import asyncio

    from stream.kafka.announce import read_announced, withdraw
    from stream.learning.recalibrating import take_back

    settings = read_settings(config, bootstrap_servers, data_dir, models_dir=models_dir)
    if recalibration:
        model, before = take_back(settings, version)
        typer.echo(f"{model}: recalibration {before or 'none'} is in effect")
        return
    announced = asyncio.run(read_announced(settings))
    target, next_one = announced.rollback(version)
    asyncio.run(withdraw(settings, target, reason))
    typer.echo(f"withdrew {target} on {settings.topics.models}; champion: {next_one}")


def _moment(time: int) -> str:
    return f"{datetime.fromtimestamp(time / 1000, UTC):%Y-%m-%d %H:%M}"
