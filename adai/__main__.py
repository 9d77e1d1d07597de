"""`python -m adai` is the `adai` command."""

import sys

from adai.cli import main

sys.exit(main())
