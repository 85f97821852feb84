"""`python -m triarch`."""

import sys

from triarch.cli.main import main

sys.exit(main())
