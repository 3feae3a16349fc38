"""`python -m moltide.cli`."""

import sys

from moltide.cli import main

sys.exit(main())
