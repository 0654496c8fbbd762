"""The Kafka Streams program: its jars, compiled on first use with the Eclipse compiler."""

import hashlib
import os
import subprocess
from pathlib import Path

from stream.broker.jars import cache_folder, fetched, java, locked_jars, read_lock

_FOLDER = Path(__file__).parent
_SOURCE = _FOLDER / "LastEvents.java"
_COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
_JVM = (
    "-Xmx1g",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)


def command() -> list[str]:
    """Return the Java command that runs the compiled program; its arguments follow.

    Raises:
        BrokerError: a jar or the Java runtime cannot be had.
        CalledProcessError: the program does not compile.
    """
    extra = read_lock((_FOLDER / "kafka-streams.lock").read_text(encoding="utf-8"))
    jars = os.pathsep.join(map(str, fetched(locked_jars() | extra, "Kafka Streams", print)))
    return [str(java()), *_JVM, "-cp", f"{jars}{os.pathsep}{_compiled(jars)}", _SOURCE.stem]


def _compiled(jars: str) -> Path:
    """Compile into the cache, once per version of the source."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + jars.encode()).hexdigest()[:16]
    folder = cache_folder() / "kafka-streams" / digest
    if not (folder / f"{_SOURCE.stem}.class").is_file():
        words = ["-cp", jars, _COMPILER, "-source", "21", "-target", "21", "-nowarn"]
        subprocess.run(
            [str(java()), *words, "-cp", jars, "-d", str(folder), str(_SOURCE)], check=True
        )
    return folder
