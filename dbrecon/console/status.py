"""Where an experiment stands, and its errors."""

import json
import os
import shutil
import sys
from dataclasses import asdict
from typing import Any

from dbrecon.console.commands import asked_place, asked_reident, open_ledger, place_in_words
from dbrecon.console.parser import Arguments
from dbrecon.console.status_report import RULE, format_errors, format_status, status_dict
from dbrecon.place import EVERYWHERE
from dbrecon.settings import Config


def show_status(args: Arguments, config: Config) -> int:
    """Show where an experiment stands."""
    reident, ledger = asked_reident(args), open_ledger(config, make=False)
    place = asked_place(args)
    row = ledger.experiment(reident)
    ledger.check_place(reident, place)
    status = ledger.status(reident, place)
    if args.json:
        from dbrecon.steps.prepare import experiment_of, settled
        from dbrecon.steps.provenance import made_of

        row = settled(ledger, row, config)
        made: dict[str, Any] = {"experiment": asdict(row), "solutions_made_by": [asdict(maker) for maker in ledger.makers(reident)]}
        made["provenance"] = made_of(experiment_of(ledger, row, config), ledger)
        print(json.dumps(status_dict(reident, status) | {"stusab": place.stusab, "county": place.county} | made, indent=2))
        return 0
    # `watch` gives the width of its terminal in COLUMNS; what goes into a file or a pipe stays whole.
    on_screen = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    width = shutil.get_terminal_size().columns if on_screen else None
    everything = {"shown": None} if args.verbose else {}
    if place != EVERYWHERE:
        print(f"Place\n   {place_in_words(ledger, reident, place)}\n{RULE}")
    print(format_status(status, width, **everything))
    return 0


def show_errors(args: Arguments, config: Config) -> int:
    """Print the newest errors, of one experiment or of all."""
    ledger = open_ledger(config, make=False)
    if args.reident:
        ledger.experiment(asked_reident(args))
    errors = ledger.errors(args.reident, args.errors)
    print(format_errors(errors, args.verbose) if errors else "no errors are recorded")
    return 0
