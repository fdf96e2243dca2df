"""Everything that needs a GPU, in pieces of less than ten minutes: the tests marked `gpu`, and each bench.

python -m benchmarks.gpu [--list] [PIECE ...]

What the pieces print and measure goes to benchmarks/results/gpu. A piece that fails or takes too long does not stop the
others; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from mtl.bench.models import MODELS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gpu"
LONGEST = 570  # seconds

TESTS = {
    "tests-strategies": ["tests/strategies/test_conformance.py"],
    "tests-others": ["tests", "--ignore=tests/strategies/test_conformance.py", "--ignore=tests/slurm"],
}
BENCHES = {
    **{f"steps-{model}": ["steps", "--models", model] for model in MODELS},
    **{name: [name] for name in ("solvers", "population", "search")},
}
PIECES = (*TESTS, *BENCHES)


def command(piece: str) -> list[str]:
    """The command of a piece."""
    if piece in TESTS:
        return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *TESTS[piece]]
    json = str(RESULTS / f"{piece}.json")
    return [sys.executable, "-m", "mtl", "bench", *BENCHES[piece], "--device", "cuda", "--json", json]


def carry_out(piece: str) -> bool:
    """Run a piece, keep what it prints, and return whether it went well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    with (RESULTS / f"{piece}.txt").open("w", encoding="utf-8") as log:
        try:
            done = subprocess.run(
                command(piece), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=LONGEST
            )
            ended = "done" if done.returncode == 0 else f"failed with exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {LONGEST} s"
    last = (RESULTS / f"{piece}.txt").read_text(encoding="utf-8").strip().splitlines()[-1:] or [""]
    print(f"{piece}: {ended} after {time.monotonic() - start:.0f} s: {last[0]}", flush=True)
    return ended == "done"


def main() -> int:
    """Run the pieces that were asked for, all by default."""
    parser = argparse.ArgumentParser(description="Everything that needs a GPU.")
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help="default: all")
    parser.add_argument("--list", action="store_true", help="print the names of the pieces")
    args = parser.parse_args()
    if args.list:
        print("\n".join(PIECES))
        return 0
    for piece in args.pieces:
        if piece not in PIECES:
            print(f"unknown piece {piece!r}: there are {', '.join(PIECES)}", file=sys.stderr)
            return 2
    if not torch.cuda.is_available():
        print("no CUDA device is available here", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    return 0 if all([carry_out(piece) for piece in args.pieces or PIECES]) else 1


if __name__ == "__main__":
    sys.exit(main())
