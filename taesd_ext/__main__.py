"""``python -m taesd_ext``"""

import sys

try:
    from taesd_ext.cli import main

    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)  # cli.STOPPED, which may not be imported yet
