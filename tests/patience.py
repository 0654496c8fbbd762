"""How long a test waits for what must come.

Tests wait on conditions. A limit is there so that a test which waits in vain ends, and says nothing
about how long something may take: a machine that has other work to do is no error.
"""

from typing import Final

PATIENCE_S: Final = 180.0
