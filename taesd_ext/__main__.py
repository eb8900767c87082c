"""``python -m taesd_ext``"""

from __future__ import annotations

import sys

from taesd_ext.cli import main

sys.exit(main())
