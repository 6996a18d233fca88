"""`python -m fluxlet` is the `flux` command."""

import sys

from fluxlet.cmd.driver import main

sys.exit(main())
