"""The entry point of `intentstream`, and the one way in which every command ends.

Nothing is imported before an interruption can be taken as one, since the imports of a command take
seconds. Exit statuses: 0; 1 with one line on an error, and where the output cannot be written; 2 on
wrong usage; 130 after Ctrl-C, but for commands that are meant to be ended so, which exit with 0.
"""

from __future__ import annotations

import errno
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 128 + signal.SIGINT
_OUTSIDE: Final = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Errors of a disk or a path, which are no bugs of the program."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit."""
    status: int | str | None = 0
    try:
        try:
            # Not before: see above.
            from stream.cli.program import run

            run(sys.argv[1:] if arguments is None else arguments)
        except SystemExit as ended:
            status = ended.code
        if sys.stdout is not None:  # closed by the process that started the program
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader of the output has what it wanted.
        from stream.cli.ending import give_up_output

        give_up_output()
        status = 1
    except OSError as error:
        if error.errno not in _OUTSIDE:
            raise
        from stream.cli.ending import give_up_output, tell

        give_up_output()
        status = 1
        tell(f"cannot write or read {error.filename or 'the output'}: {error.strerror}")
    if arguments is None:
        # What is left is Python's own end, which an interruption would only make noisy.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


if __name__ == "__main__":
    main()
