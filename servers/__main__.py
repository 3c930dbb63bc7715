"""`python -m servers`: see `servers.cli.serve`."""

import sys

from servers.cli.serve import main

if __name__ == "__main__":
    sys.exit(main())
