"""`python -m moltide`."""

import sys

from moltide.cli import main

sys.exit(main())
