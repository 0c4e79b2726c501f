"""``python -m pybuild`` is the same as the ``pybuild`` command."""

import sys

from pybuild.cli.main import main

sys.exit(main())
