"""``python -m taesd_ext``"""

from __future__ import annotations

import sys

try:
    from taesd_ext.cli import STOPPED, main

    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(STOPPED)
