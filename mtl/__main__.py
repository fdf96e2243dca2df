"""`python -m mtl`, the same as the command `mtl`."""

import sys

from mtl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
