"""``python -m scopenet``, the same as the program ``scopenet``."""

import sys

from .cli import main

sys.exit(main())
