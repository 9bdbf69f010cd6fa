"""`python -m tapecast` is the `tapecast` command."""

import sys

from tapecast.cli import main

sys.exit(main())
