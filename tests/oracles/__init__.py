"""An independent oracle for every strategy, shared by the tests and by the table in `docs/oracles.md`."""

from tests.oracles import beyond, gramian, losses, preferences
from tests.oracles.base import ORACLES, deviation, run_of, trace

__all__ = ["ORACLES", "beyond", "deviation", "gramian", "losses", "preferences", "run_of", "trace"]
