"""Schedulers on many nodes: the line for cron, and hosts that are no more."""

import os
import shlex
import sys
import sysconfig
from collections import Counter

from dbrecon.console.commands import asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import held_units
from dbrecon.errors import UsageError
from dbrecon.ledger.ledger import Ledger
from dbrecon.paths import HOME, INSTALLED, command
from dbrecon.settings import Config

ENVIRONMENT_FILE = ".dbrecon.env"
LOG_FILE = "dbrecon-scheduler.log"
NAMES = ("DAS_S3ROOT", "DBRECON_CONFIG", "DBRECON_HOSTNAME", "GRB_LICENSE_FILE")
PREFIXES = ("MYSQL_", "AWS_")


def crontab(args: Arguments, _config: Config) -> int:
    """Print the line for cron, and on stderr what it needs: cron has none of this shell's environment."""
    reident = f" --reident {asked_reident(args)}" if args.reident else ""
    start = f'. "$HOME/{ENVIRONMENT_FILE}" && {_scheduler()} --quiet{reident}'
    line = f'({start}) >>"$HOME/{LOG_FILE}" 2>&1'
    print("* * * * * " + line.replace("%", r"\%"))  # to cron a bare % is the end of the command
    names = sorted(name for name in os.environ if name in NAMES or name.startswith(PREFIXES))
    pattern = "|".join(names) or "DAS_S3ROOT"
    sys.stderr.write(
        f"\ninstall it:  (crontab -l; {command('dbrtool')} --crontab{reident}) 2>/dev/null | crontab -\n"
        f"It reads ~/{ENVIRONMENT_FILE}, where passwords are safe if only you can read it. From this shell's environment:\n"
        f"    (umask 077; sh -c 'export -p' | grep -E '^export ({pattern})=' >~/{ENVIRONMENT_FILE})\n"
        f"Started every minute, it leaves where one runs already, and when nothing is left to do. It logs to ~/{LOG_FILE}.\n"
    )
    return 0


def _scheduler() -> str:
    """Return the shell's words that start this program's scheduler, from any folder and without this shell's PATH."""
    if INSTALLED:
        return f"exec {shlex.quote(os.path.join(sysconfig.get_path('scripts'), 'scheduler'))}"
    return f"cd {shlex.quote(str(HOME))} && exec ./scheduler.py"


def unlock(args: Arguments, config: Config) -> int:
    """Free what hosts hold: those named, or those that are silent."""
    ledger = open_ledger(config, make=False)
    reidents = [asked_reident(args)] if args.reident else [row.reident for row in ledger.experiments()]
    for reident in reidents:
        ledger.experiment(reident)
    named = [host.strip() for host in args.unlock.split(",") if host.strip()]
    if args.unlock and not named:
        raise UsageError("--unlock takes hosts' names, as in --unlock ip-10-0-0-7,ip-10-0-0-8, or nothing")
    if named:
        for host in named:
            _say_freed(host, sum(ledger.release_hosts(reident, [host]) for reident in reidents), "")
    else:
        _unlock_silent(ledger, reidents)
    return 0


def _unlock_silent(ledger: Ledger, reidents: list[str]) -> None:
    """Free in each experiment what its silent hosts hold: the hosts of which its --status says so."""
    now, freed, since, alive = ledger.now(), Counter[str](), dict[str, int](), dict[str, int]()
    for reident in reidents:
        for holder in ledger.holders(reident):
            seconds = max(0, now - holder.heard_at)
            known = since if holder.silent else alive
            known[holder.host] = min(seconds, known.get(holder.host, seconds))
            if holder.silent:
                freed[holder.host] += ledger.release_hosts(reident, [holder.host])
    for host in sorted(since):
        _say_freed(host, freed[host], f", not heard of for {since[host]:,} s")
    if not since:
        print(f"nothing to unlock: every host that holds something has been heard of in the past {ledger.beats.silence_seconds} s")
        for host in sorted(alive):
            print(f"   {host}: {alive[host]:,} s ago (if you know that it is dead: --unlock {host})")


def _say_freed(host: str, freed: int, heard: str) -> None:
    print(f"{host}{heard}: {held_units(freed)} freed" if freed else f"{host} holds nothing")
