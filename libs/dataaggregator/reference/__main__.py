"""The reference as a program: ``python -m dataaggregator.reference``."""

import sys

from dataaggregator.reference import main

sys.exit(main(sys.argv[1:]))
