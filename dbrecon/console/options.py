"""The options of every command line, by group: each is declared here once, and means the same for every program.

Nothing is loaded for it but click: what an option does is loaded when it is asked for.
"""

from __future__ import annotations

import re
from typing import Any

import click

from dbrecon.console.parser import POSITIVE, Checked, Group, Option, completing, flag
from dbrecon.ctools import cli
from dbrecon.errors import UsageError
from dbrecon.experiment import AGE_CHOICES, CELL_KINDS

ERRORS_SHOWN = 20
CLEAR_AFTER_HOURS = "24"
WATCH_SECONDS = 2
LOG_LINES = 100
LOOPBACK = "127.0.0.1"
SHELLS = ("bash", "zsh", "fish")


def _hours(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise UsageError(f"{text!r} is not a number of hours")
    return text


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]+", text) or int(text) > 65535:
        raise UsageError(f"{text!r} is not a port: give a number from 0 to 65535")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"0|1|[01]?\.[0-9]+", text) or float(text) > 1:
        raise UsageError(f"{text!r} is not a share: give a number from 0 to 1, as 0.6")
    return float(text)


SHARE = Checked("SHARE", _share)


def _seed(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise UsageError(f"{text!r} is not a seed: give a whole number of at most nine digits")
    return int(text)


def _people(text: str) -> tuple[int | None, int | None]:
    """MIN:MAX, either of which may be left out."""
    match = re.fullmatch("([0-9]*):([0-9]*)", text)
    least, most = (int(part) if part else None for part in match.groups()) if match else (None, None)
    if (least is None and most is None) or (least is not None and most is not None and least > most):
        raise UsageError(f"{text!r} is not MIN:MAX, as in 1000:5000, 1000: or :5000")
    return least, most


def _traceback_too(_ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    if value:
        cli.show_tracebacks()
    return value


def seed() -> Option:
    """Of what is drawn."""
    return Option("--seed", metavar="N", type=Checked("N", _seed), help="the seed of an experiment, or of random draws")


# -- options that several programs have ---------------------------------------------------------------------------------


def reident() -> Option:
    """Return the option that names the experiment."""
    return Option(
        "--reident", metavar="R", envvar="REIDENT", help="the experiment (default: $REIDENT)", shell_complete=completing("reident")
    )


def place() -> tuple[Option, ...]:
    """Return the options of the place: the same as the words STUSAB [COUNTY [TRACT,...]]."""
    return (
        Option(
            "--stusab", metavar="ST", multiple=True, shell_complete=completing("stusab"),
            help="a state by its two letters, or all; steps 0 to 2: several with commas",
        ),
        Option("--county", metavar="CCC", shell_complete=completing("county"), help="a county of the state, by its three digits"),
        Option("--tract", metavar="TTTTTT,...", multiple=True, help="tracts of the county, by their six digits"),
    )  # fmt: skip


def certainty_extras(when: str) -> tuple[Option, ...]:
    """Return the options of what step 6 writes beside certainty."""
    return (
        Option(
            "--cells", optional=CELL_KINDS[0], metavar="|".join(CELL_KINDS), only=CELL_KINDS,
            help=f"{when}write the least and most of every count too, as CSV unless parquet is said",
        ),
        Option(
            "--samples", metavar="N", type=POSITIVE,
            help=f"{when}draw N data sets with the same tables (--seed S), and say in how many each person is",
        ),
        flag("--walk", help="with --samples: draw by a random walk, which comes near a uniform sample of all data sets (slower)"),
        flag("--keep_samples", help="with --samples: keep the data sets, as Parquet in samples/"),
    )  # fmt: skip


def talk() -> Group:
    """Return the options of how much is said, and of what."""
    return Group(
        "talk",
        "talk (on stderr; results go to stdout)",
        (
            Option(
                "--debug", is_flag=True, default=False, is_eager=True, callback=_traceback_too,
                help="log everything, and show where an error came from",
            ),
            flag("-v", "--verbose", help="log what is done in detail"),
            flag("-q", "--quiet", help="log warnings and errors only"),
            flag("--version", help="this program's version"),
            Option(
                "--completion", metavar="|".join(SHELLS), type=click.Choice(SHELLS),
                help='have a shell complete options, experiments, places and hosts: eval "$(./dbrtool.py --completion bash)"',
            ),
        ),
    )  # fmt: skip


# -- dbrtool.py ---------------------------------------------------------------------------------------------------------


def operator_groups() -> tuple[Group, ...]:
    """Return all options of dbrtool.py."""
    return (
        _experiments(),
        _states(),
        _tracts(),
        Group("where", "where", (*place(), flag("--force", help="with a step: make again what exists"))),
        _watching(),
        _certainty(),
        _schedulers(),
        _spark(),
        _cluster(),
        _remote_schedulers(),
        _dashboard(),
        _secrets(),
        _disclosure(),
        _files(),
        talk(),
    )


def _experiments() -> Group:
    return Group(
        "experiments",
        "experiments",
        (
            reident(),
            Option("--register", optional="", metavar="R", help="make a new experiment of that name; with --run: if it is new"),
            Option(
                "--tables", metavar="T", shell_complete=completing("tables"),
                help="with --register and --audit: all (default), block, some left out (all-P8-P10), or a list (P1,P12)",
            ),
            Option(
                "--ages", metavar="|".join(AGE_CHOICES), type=click.Choice(AGE_CHOICES),
                help="with --register: programs count ages by bins (default), or single ages throughout",
            ),
            flag("--reidents", help="list the experiments"),
            Option(
                "--product", metavar="P",
                help="with --register, --audit: the tables' product (default sf1_2010) or its folder; with --rescan: copied files'",
            ),
            flag("--products", help="list the products that come with the program, with their tables"),
            Option("--check_product", metavar="FOLDER", help="prove that a folder is a product"),
            flag("--upgrade_database", help="bring the tables of an earlier version of this program to those of this one"),
            flag("--drop", help="remove the experiment's tables from the database, but no files"),
        ),
    )  # fmt: skip


def _states() -> Group:
    return Group(
        "states",
        "states (--stusab: one, several with commas, or all whose zip is in dist/)",
        (
            flag("--step0", help="download the states' zips"),
            flag("--validate", help="check the zips in dist/, and name what is broken"),
            flag("--step1", help="enter geography and tracts into the database"),
            flag("--step2", help="write a block file and a tract file for each county"),
        ),
    )  # fmt: skip


def _tracts() -> Group:
    return Group(
        "tracts",
        "tracts and counties",
        (
            flag("--run", help="run the scheduler here until nothing is left to do (with --step3 or --step4: of that step)"),
            flag("--step3", help="write LP files"),
            flag("--step4", help="solve, and check each solution against every published cell"),
            flag("--step5", help="write the people of counties whose tracts are solved"),
            flag("--step6", help="compute how sure the people are, in counties where they are written (with --run: after step 5)"),
            *certainty_extras("with --step6: "),
            flag("--retry_quarantined", help="put tracts in quarantine back to work"),
        ),
    )  # fmt: skip


def _dashboard() -> Group:
    return Group(
        "dashboard",
        "dashboard",
        (
            flag("--dashboard", help="serve the web page of all experiments, until Ctrl-C"),
            Option("--port", metavar="N", type=Checked("N", _port), help="its port (default: [dashboard] port; 0: any free)"),
            Option("--host", metavar="H", help=f"the address it listens on (default: {LOOPBACK})"),
        ),
    )  # fmt: skip


def _secrets() -> Group:
    return Group(
        "secrets",
        "secrets",
        (
            Option(
                "--encrypt_config", metavar="PLAIN.json", shell_complete=completing("file"),
                help="encrypt the database's credentials with KMS, into config/",
            ),
            flag("--env", help="print the database's settings for a shell: $(./dbrtool.py --env) sets MYSQL_HOST and its partners"),
            flag("--mysql", help="open the database's client"),
        ),
    )  # fmt: skip


def _watching() -> Group:
    return Group(
        "watching",
        "watching",
        (
            flag("--status", help="show how far the experiment is, or a state or county of it"),
            Option(
                "--watch", optional=WATCH_SECONDS, metavar="SECONDS", type=POSITIVE,
                help=f"show --status, refreshed in place until all is done or Ctrl-C (every {WATCH_SECONDS} s)",
            ),
            Option(
                "--errors", optional=ERRORS_SHOWN, metavar="N", type=POSITIVE,
                help="show the newest errors (with --verbose: with tracebacks)",
            ),
            Option(
                "--evaluate", optional="", metavar="TRUTH", multiple=True, several=True, shell_complete=completing("file"),
                help="count the published cells that the people do not meet; compare with true people (.csv, .csv.gz, a folder)",
            ),
            flag("--json", help="with --status, --evaluate, --certainty, --reidentify and --cluster: print JSON, for scripts"),
        ),
    )  # fmt: skip


def _disclosure() -> Group:
    return Group(
        "disclosure",
        "what tables give away",
        (
            Option(
                "--export", metavar="parquet|csv|duckdb", type=click.Choice(["parquet", "csv", "duckdb"]),
                help="write the people of a place with their certainty, one file a state, into --out",
            ),
            flag("--partitioned", help="with --export: write a file a county, in folders stusab=.../county=..."),
            flag(
                "--report",
                help="write one page about what the experiment, or a place of it, gives away (with --truth: and how much is true)",
            ),
            Option(
                "--audit", metavar="RECORDS", multiple=True, several=True, shell_complete=completing("file"),
                help="tabulate records (.csv, .csv.gz, .parquet), reconstruct them, and report what the tables give away",
            ),
            Option(
                "--what_if", metavar="WAY", multiple=True, several=True,
                help="with --audit: other ways to publish (block, all-P8, each, swap=.1, round=5:P12A); with --report: experiments",
            ),
            Option(
                "--reidentify", metavar="ATTACKER", multiple=True, several=True, shell_complete=completing("file"),
                help="match an attacker's file (id,geoid_block,sex,age) with the people; --truth confirms the matches",
            ),
            Option(
                "--truth", metavar="TRUTH", multiple=True, several=True, shell_complete=completing("file"),
                help="with --reidentify, --report and --certainty: the true people, with the attacker's ids where there are any",
            ),
            Option(
                "--repeats", metavar="N", type=POSITIVE,
                help="how many times ties are drawn (default: --reidentify 5, --report 1)",
            ),
            Option(
                "--make_attacker", metavar="TRUTH", multiple=True, several=True, shell_complete=completing("file"),
                help="draw an attacker's file from true people, into --out",
            ),
            Option(
                "--coverage", metavar="SHARE", type=SHARE, default=0.6,
                help="with --make_attacker: the share of people known (default 0.6)",
            ),
            Option(
                "--error_rate", metavar="SHARE", type=SHARE, default=0.05,
                help="with --make_attacker: the share of wrong records (default 0.05)",
            ),
            Option(
                "--out", metavar="FOLDER", shell_complete=completing("file"),
                help="where --export, --report, --audit and --make_attacker write",
            ),
            seed(),
        ),
    )  # fmt: skip


def _certainty() -> Group:
    return Group(
        "certainty",
        "how sure the people are (after --step6)",
        (
            Option(
                "--certainty", optional="", metavar="FILE", shell_complete=completing("file"),
                help="show how many people may differ, by size of block (FILE.csv or FILE.json: write it there too)",
            ),
            Option(
                "--claim", metavar="CLAIM",
                help="answer a claim in words: 'block 390599771001005: a woman of 62 to 64, white alone, not Hispanic'",
            ),
            Option("--certificate", metavar="FILE", help="with --claim: write a proof there that can be checked without a solver"),
            Option("--claims", metavar="FILE", shell_complete=completing("file"), help="answer the claims of a file, one a line"),
            Option("--check_claim", metavar="FILE", shell_complete=completing("file"), help="check a certificate (no solver)"),
        ),
    )  # fmt: skip


def _schedulers() -> Group:
    return Group(
        "schedulers",
        "schedulers",
        (
            flag("--crontab", help="print the crontab line that keeps a scheduler running on this node"),
            Option(
                "--unlock", optional="", metavar="HOST[,HOST]", shell_complete=completing("host"),
                help="give back what these hosts have claimed, now; without HOST: what hosts that have long been silent have",
            ),
        ),
    )  # fmt: skip


def _spark() -> Group:
    return Group(
        "spark",
        "Spark ([spark] settings)",
        (
            flag("--spark", help="with --run, steps 1 to 5 or --rescan: do it as a Spark job"),
            Option(
                "--pop100", metavar="MIN:MAX", type=Checked("MIN:MAX", _people),
                help="with --spark: only tracts of so many people (or MIN:, :MAX)",
            ),
            Option("--limit", metavar="N", type=POSITIVE, help="with --spark or --launch: stop after N tracts"),
            Option("--spark_pack", metavar="FILE.tar.gz", help="pack the packages that executors need ([spark] environment)"),
        ),
    )  # fmt: skip


def _cluster() -> Group:
    return Group(
        "cluster",
        "the cluster (nodes of EMR, or those of [cluster] hosts)",
        (
            flag("--cluster", help="show a line for each node: idle or in use, uptime, load, free memory"),
            Option("--resize", metavar="N", help="change the number of TASK nodes to N; other nodes are never changed"),
            flag("--doctor", help="check everything that a run needs, here and on each node"),
            flag("--yes", help="with --resize: do not ask"),
        ),
    )


def _remote_schedulers() -> Group:
    host: dict[str, Any] = {"metavar": "HOST[,HOST]", "shell_complete": completing("node")}
    return Group(
        "launching",
        "schedulers on the cluster's nodes",
        (
            Option("--launch", **host, help="start schedulers there from a fresh checkout (with --force: on nodes in use too)"),
            flag("--launch_all", help="launch on all idle TASK nodes"),
            Option("--branch", metavar="B", help="with --launch: the branch or tag to check out"),
            # Without a host: a sentence that asks which.
            Option(
                "--stop",
                optional="",
                **host | {"metavar": "HOST[,HOST]|all"},
                help="have schedulers there finish their tracts and leave",
            ),
            Option(
                "--logs",
                optional="",
                **host | {"metavar": "HOST"},
                help="show the newest output of the node's scheduler (-f follows it)",
            ),
            flag("-f", "--follow", help="with --logs: go on as the log grows, until Ctrl-C"),
            Option("--lines", metavar="N", type=POSITIVE, help=f"with --logs: that many lines (default {LOG_LINES})"),
        ),
    )


def _files() -> Group:
    return Group(
        "files",
        "files and ledger",
        (
            flag("--ls", help="list the experiment's files, with sizes"),
            Option(
                "--info", metavar="PATH", shell_complete=completing("file"),
                help="show what a file holds: tract, people, variables, constraints, solver, time",
            ),
            flag("--uploads", help="list files that writers which died have left unfinished"),
            Option(
                "--clear_uploads", optional=CLEAR_AFTER_HOURS, metavar="HOURS", type=Checked("HOURS", _hours),
                help=f"remove such files that were begun more than HOURS ago (default {CLEAR_AFTER_HOURS})",
            ),
            flag("--rescan", help="check every file against the ledger, and put right whichever is wrong"),
            flag("--dry_run", help="with --rescan: only say what is wrong"),
        ),
    )  # fmt: skip


# -- the other programs -------------------------------------------------------------------------------------------------


def scheduler_groups(commands: dict[str, str]) -> tuple[Group, ...]:
    """Return all options of scheduler.py. ``commands``: what --tell takes, with the meanings."""
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in commands.items())
    return (
        Group(
            "work",
            "what to do",
            (
                reident(),
                *place(),
                flag("--step3", help="make LP files only, unless --step4 is given too"),
                flag("--step4", help="solve tracts that have LP files, and write people (with --step3: the other tracts too)"),
                flag("--step6", help="compute certainty too, where people are written and nothing else is to be done"),
                Option("--limit", metavar="N", type=POSITIVE, help="stop after N tracts"),
                flag("--asc", help="smallest tracts first (default: biggest first)"),
            ),
        ),
        Group(
            "tell",
            "talking to it",
            (
                Option(
                    "--tell", metavar="COMMAND", type=click.Choice(list(commands)),
                    help=f"talk to the scheduler of this node, and print its answer ({meanings})",
                ),
            ),
        ),
        talk(),
    )  # fmt: skip


def step_groups(force: str, *more: Group) -> tuple[Group, ...]:
    """Return the options of a step's script. ``force``: what --force does."""
    return Group("what", "what to do", (reident(), *place(), flag("--force", help=force))), *more, talk()


VALIDATE = ("--validate", "only check what lies in dist/, and name what is broken")


def single_file_group() -> Group:
    """Step 4 of a file of no experiment."""
    return Group(
        "file",
        "a single LP file, of no experiment (the predecessor's, say)",
        (
            Option("--lp", metavar="FILE", shell_complete=completing("file"), help="solve this LP file (.lp or .lp.gz)"),
            Option(
                "--sol", metavar="FILE", shell_complete=completing("file"),
                help="write its solution here (default: beside it, .sol.gz)",
            ),
        ),
    )  # fmt: skip
