"""When a compiled kernel on disk is old.

numba takes it for fresh as long as the kernel's own file is the same. But a kernel holds a copy of
every kernel that it calls and of every number that it names, wherever they come from; after an
update of theirs alone it would go on as before. Here its stamp covers them too.

numba checks the stamp of the index alone, and numbers the files with the machine code. Two versions
that share a folder would take each other's. Here the stamp is part of the names of both files.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator
from numba.core.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable


_INDEX: Final = re.compile(r"((.*)-\d+-[0-9a-f]{16}\.[^.]*)\.nbi")
"""Name of an index: kernel, line, stamp, version of Python."""
_VERSIONS_KEPT: Final = 8
"""Of a kernel, in one folder."""


def stamp(function: Callable[..., Any]) -> str:
    """Digest of what a kernel is compiled of.

    That is its file and, of what the file imports, the files of kernels and of records (named
    tuples), with what these import in turn, the numbers and the layouts of NumPy records. It is
    also every module beside these files: a record that a kernel takes is often imported for type
    checkers only, and numba takes two records of the same types for one, whatever the order of
    their fields.
    """
    files: set[str] = set()
    numbers: set[str] = set()
    _gather(function.__globals__, files, numbers)
    files.update(*(_modules_of(folder) for folder in {str(Path(file).parent) for file in files}))
    parts = [*map(_digest, sorted(files)), *sorted(numbers)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _gather(names: dict[str, Any], files: set[str], numbers: set[str]) -> None:
    file = names.get("__file__")
    if file is None or file in files:  # builtins have no file
        return
    files.add(file)
    for name, value in list(names.items()):
        if isinstance(value, int | float | np.number | np.dtype):
            numbers.add(f"{names['__name__']}.{name} = {value!r}")
        elif isinstance(value, Dispatcher):
            _gather(value.py_func.__globals__, files, numbers)
        elif isinstance(value, type) and issubclass(value, tuple):
            _gather(vars(sys.modules[value.__module__]), files, numbers)


@functools.cache
def _modules_of(folder: str) -> frozenset[str]:
    return frozenset(map(str, Path(folder).glob("*.py")))


@functools.cache
def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@functools.cache
def _drop_old_versions(folder: str) -> None:
    """Delete the compiled kernels of all but the last few versions of the source; once."""
    versions: dict[str, list[tuple[float, str]]] = {}
    with contextlib.suppress(OSError):  # another process deletes or saves some at the same time
        for entry in os.scandir(folder):
            if named := _INDEX.fullmatch(entry.name):
                versions.setdefault(named[2], []).append((entry.stat().st_mtime, named[1]))
        for found in versions.values():
            for _, name in sorted(found)[:-_VERSIONS_KEPT]:
                for path in Path(folder).glob(f"{glob.escape(name)}.*"):
                    path.unlink(missing_ok=True)


class _Stamped:
    """A place for compiled kernels, with that stamp."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)  # type: ignore[call-arg]
        self._stamp = stamp(py_func)

    def ensure_cache_path(self) -> None:
        super().ensure_cache_path()  # type: ignore[misc]
        _drop_old_versions(self.get_cache_path())  # type: ignore[attr-defined]

    def get_disambiguator(self) -> str:
        return f"{super().get_disambiguator()}-{self._stamp[:16]}"  # type: ignore[misc]

    def get_source_stamp(self) -> str:
        return self._stamp


class UserProvided(_Stamped, UserProvidedCacheLocator):
    """The folder NUMBA_CACHE_DIR."""


class InTree(_Stamped, InTreeCacheLocator):
    """The folder beside the code."""


class UserWide(_Stamped, UserWideCacheLocator):
    """The user's folder for caches."""


PLACES = ",".join(
    f"{place.__module__}.{place.__name__}" for place in (UserProvided, InTree, UserWide)
)
"""In numba's notation, in the order in which they are tried."""
