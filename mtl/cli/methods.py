"""`mtl search --methods`: one search after another, each with the same steps, and one report of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mtl.benchmarks import find_benchmark
from mtl.cli.checks import read_search
from mtl.cli.errors import BadInput
from mtl.cli.options import DEFAULT_BUDGET, SearchOptions
from mtl.cli.outcome import reporting
from mtl.cli.place import out_of
from mtl.cli.searching import search_one
from mtl.cli.shared import make_setting, tell
from mtl.search.methods import Method, MethodOptions
from mtl.search.plan import make_method, run_length
from mtl.search.several import equal_options


def search_methods(options: SearchOptions, methods: Sequence[str]) -> int:
    """Search by each method in a directory of its own within `--out`, and compare them."""
    out = out_of(options)
    trials = int(options.method_options.get("trials") or DEFAULT_BUDGET)
    plain = dataclasses.replace(options, methods=None, method_options={}, given=options.given - {"methods"})
    try:
        benchmark = find_benchmark(options.subject)
        asked = {name: read_search(dataclasses.replace(plain, method=name), benchmark) for name in methods}
        setting = make_setting(options, benchmark)

        def make(name: str, chosen: MethodOptions) -> Method:
            return make_method(name, chosen, asked[name].space, asked[name].objective, 0, run_length(setting))

        spaces = {name: each.space for name, each in asked.items()}
        chosen = equal_options(methods, trials, options.method_options, spaces, make)
        each = []
        for name in methods:
            said = {key: value for key, value in dataclasses.asdict(chosen[name]).items() if value is not None}
            one = dataclasses.replace(plain, method=name, out=out / name, method_options=said)
            read_search(one, benchmark)
            each.append(one)
        for one in each:
            if not options.resume and (held := out_of(one)).joinpath("config.yaml").exists():
                where = f"output directory {str(held)!r} already holds a run"
                raise ValueError(f"{where}: --resume continues it, --out DIR starts another")
    except ValueError as error:
        raise BadInput(str(error)) from error
    codes = []
    for one in each:
        tell(f"{one.method}: in {out_of(one)}")
        if (code := search_one(one, setting)) == 75:
            tell(f"the same command with --resume --out {out} continues with this method and those after it")
            return code
        codes.append(code)
    from mtl.cli.showing import show_report  # brings matplotlib, which training does not need

    with reporting(out):
        show_report([out_of(one) for one in each], out)
    return min(codes)
