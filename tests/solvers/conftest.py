from __future__ import annotations

import sys
from pathlib import Path

# `gramians` is imported by name, from here and from other test folders.
sys.path.insert(0, str(Path(__file__).parent))
