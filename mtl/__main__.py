"""`python -m mtl`, the same as the command `mtl`."""

from mtl.cli.main import main
from mtl.cli.torchrun import leave

if __name__ == "__main__":
    leave(main())
