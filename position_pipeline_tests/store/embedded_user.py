"""A process that uses the embedded server: prints its URL when it is in, and leaves when its input ends.

    python embedded_user.py HOME

Run by its path and importing nothing of the tests, so that a user with few rights can run it too.
"""

import sys
from pathlib import Path

from position_pipeline.store import embedded

with embedded.running(Path(sys.argv[1])) as url:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    sys.stdin.read()
