"""Options for brokers that live for seconds: little compiling, and classes that are parsed already.

A broker's start costs 5.6 s of CPU, the tool that formats its folder 1.8 s, and tests start about a
hundred. With these options it is 1.8 s and 1.0 s. `make setup` makes the archive of the classes
(class-data sharing, JEP 310) by `python -m tests.jvm`; without it the rest applies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from stream.broker import EmbeddedKafka
from stream.broker.config import OPTIONS
from stream.broker.jars import classpath, java

ARCHIVE: Final = Path(sys.prefix) / "kafka-classes.jsa"
"""In the virtual environment, like the Java that it belongs to."""
_COLLECTOR: Final = "-XX:+UseSerialGC"
"""As of the broker: an archive belongs to a collector."""


def short_lived() -> str:
    """Return what `KAFKA_OPTS` should hold."""
    options = ["-XX:TieredStopAtLevel=1"]
    if ARCHIVE.is_file():
        # One that does not fit (other jars, another Java) is passed over without a word.
        options += [f'"-XX:SharedArchiveFile={ARCHIVE}"', "-Xlog:cds=off", "-Xlog:aot=off"]
    return " ".join(options)


def make_archive() -> None:
    """Start a broker, note the classes that it loads, and write them as an archive."""
    jars = classpath(print)
    with tempfile.TemporaryDirectory() as folder:
        classes = Path(folder) / "classes"
        os.environ[OPTIONS] = f'"-XX:DumpLoadedClassList={classes}"'
        broker = EmbeddedKafka(Path(folder) / "data")
        try:
            broker.start()
        finally:
            broker.stop()
        made = Path(folder) / "archive"
        dump = [f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={made}"]
        command = [str(java()), "-Xshare:dump", _COLLECTOR, *dump, "-Xlog:all=off", "-cp", jars]
        subprocess.run(command, check=True, capture_output=True)
        whole = ARCHIVE.with_suffix(f".{os.getpid()}")
        shutil.copyfile(made, whole)
        whole.replace(ARCHIVE)


if __name__ == "__main__":
    make_archive()
