"""`python tests/local <command>`, or `python -m local <command>` with tests/ on the path."""

import pathlib
import sys

if not __package__:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from local.command import main  # noqa: E402

sys.exit(main())
