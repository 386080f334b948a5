"""Schedulers on many nodes: the line for cron, and hosts that are no more."""

import os
import shlex
import sys
import sysconfig

from dbrecon.console.commands import asked_reident, open_ledger
from dbrecon.console.parser import Arguments
from dbrecon.ctools.progress import counted
from dbrecon.errors import UsageError
from dbrecon.ledger.ledger import Ledger
from dbrecon.ledger.records import SILENT_SECONDS
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
    """The shell's words that start this program's scheduler, from any folder and without this shell's PATH."""
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
    seconds = silence_seconds(config)
    silent = silent_hosts(ledger, config, reidents, seconds)
    hosts = named or sorted(silent)
    for host in hosts:
        freed = sum(ledger.release_hosts(reident, [host]) for reident in reidents)
        heard = "" if host not in silent or named else f", not heard of for {silent[host]:,} s"
        number = counted(freed, "tract or county", "tracts or counties")
        print(f"{host}{heard}: {number} freed" if freed else f"{host} holds nothing")
    if not hosts:
        print(f"nothing to unlock: every host that holds tracts was heard of in the past {seconds} s")
        for host, since in sorted(last_heard(ledger, config, reidents).items()):
            print(f"   {host}: {since:,} s ago (if you know that it is dead: --unlock {host})")
    return 0


def silence_seconds(config: Config) -> int:
    """After how many seconds without a word a host counts as gone: three heartbeats, where these are farther apart than reports."""
    return max(SILENT_SECONDS, 3 * config.run.heartbeat_seconds)


def silent_hosts(ledger: Ledger, config: Config, reidents: list[str], seconds: int) -> dict[str, int]:
    """Hosts that hold tracts or counties and were not heard of for ``seconds``, with the seconds since."""
    return {host: since for host, since in last_heard(ledger, config, reidents).items() if since > seconds}


def last_heard(ledger: Ledger, config: Config, reidents: list[str]) -> dict[str, int]:
    """Seconds since each host that holds tracts or counties was heard of, by a report or by a heartbeat. A lease tells of the
    heartbeat that gave it, reckoned with this configuration's ``lease_seconds``."""
    now, lease = ledger.now(), int(config.run.lease_seconds)
    heard: dict[str, int] = {}
    for reident in reidents:
        for claimant in ledger.claimants(reident):
            host = claimant.worker.host
            heard[host] = max(heard.get(host, 0), claimant.lease_end - lease)
    for entry in ledger.sysload():
        if entry.load.host in heard:
            heard[entry.load.host] = max(heard[entry.load.host], entry.at)
    return {host: max(0, now - at) for host, at in heard.items()}
