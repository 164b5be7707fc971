"""`python -m service` is the `keyturn` command."""

import sys

from service.cli import main

sys.exit(main())
