"""``python -m taesd_ext``"""

from __future__ import annotations

import sys

try:
    from taesd_ext.cli import main

    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)  # cli.STOPPED, which may not be imported yet
