"""What goes with what on the operator's command line: one sentence for options that do not fit the action."""

from __future__ import annotations

from dbrecon.console.commands import asked_steps, states_asked
from dbrecon.console.parser import Arguments
from dbrecon.errors import UsageError

LAUNCHES = ("launch", "launch_all")


def given(args: Arguments, name: str) -> bool:
    """Return whether an option was on the command line."""
    return getattr(args, name, None) not in (None, False, ())


def check_options(args: Arguments, action: str, *, takes_place: bool) -> None:
    """Raise UsageError for options that mean nothing for this action."""
    for option in ("tables", "ages", "product"):
        if option == "product" and (action == "rescan" or (action == "spark" and args.rescan)):
            continue
        if getattr(args, option) and not args.register and args.register != "" and (action != "audit" or option == "ages"):
            audit = "" if option == "ages" else " or --audit"
            raise UsageError(f"--{option} is settled when an experiment is registered: give it with --register{audit}")
    if args.json and action not in ("status", "evaluate", "certainty", "cluster", "reidentify"):
        raise UsageError("--json goes with --status, --evaluate, --certainty, --reidentify or --cluster")
    named = [name for name in ("stusab", "county", "tract") if given(args, name)]
    if named and not takes_place:
        raise UsageError(f"--{action} takes no --{named[0]}")
    if args.tract and action in ("status", "watch"):
        raise UsageError(f"--{action} shows a state or a county: leave --tract out")
    _check_steps(args, action)
    _check_nodes(args, action)
    _check_spark(args, action)
    _check_files(args, action)
    _check_disclosure(args, action)
    _check_certainty(args, action)
    if action != "dashboard" and (args.port is not None or args.host is not None):
        raise UsageError("--port and --host go with --dashboard")


def _check_steps(args: Arguments, action: str) -> None:
    """Refuse steps and places that do not go together."""
    steps = asked_steps(args)
    if action == "spark":  # the same, done elsewhere
        action = "run" if args.run else "steps"
    if args.force and action not in ("steps", *LAUNCHES):
        raise UsageError("--force goes with steps (--step1 --force, say), since it makes again what exists")
    if action in ("run", "from_start") and 5 in steps:
        raise UsageError("--run writes the people of each county by itself: leave --step5 out, or leave --run out")
    whole_states = action == "validate" or any(step < 3 for step in steps)
    if whole_states and args.county is not None:
        raise UsageError("steps 0 to 2 and --validate do whole states: leave --county out")
    several = action == "from_start" or (whole_states and action != "run" and max(steps, default=0) < 3)
    if len(states_asked(args)) > 1 and not several:
        raise UsageError(f"--stusab {args.stusab}: several states at once are for steps 0 to 2; here name one, or none for all")


def _check_nodes(args: Arguments, action: str) -> None:
    """Options for other machines."""
    if args.yes and action != "resize":
        raise UsageError("--yes goes with --resize")
    if args.branch is not None and action not in LAUNCHES:
        raise UsageError("--branch goes with --launch or --launch_all")
    if (args.follow or args.lines) and action != "logs":
        raise UsageError("--follow and --lines go with --logs")
    if action in LAUNCHES and not set(asked_steps(args)) <= {3, 4}:
        raise UsageError("schedulers do steps 3 and 4, and 5 by themselves: do the other steps here, before")
    if args.launch == "all":
        raise UsageError("--launch all: --launch_all goes to all idle nodes")


def _check_spark(args: Arguments, action: str) -> None:
    """Options that choose tracts, and what Spark is to do."""
    if action != "spark":
        if args.pop100 is not None:
            raise UsageError("--pop100 goes with --spark")
        if args.limit is not None and action not in LAUNCHES:
            raise UsageError("--limit goes with --spark, --launch or --launch_all")
        return
    steps = asked_steps(args)
    if 6 in steps and (args.force or args.cells or args.samples):
        raise UsageError("--step6 with --force, --cells or --samples is done here: leave --spark out")
    if 0 in steps:
        raise UsageError("--step0 downloads to where it is run: do it without --spark, then the other steps with it")
    if args.rescan and (steps or args.pop100 or args.limit or args.force):
        raise UsageError("--spark --rescan checks files: give steps, --force, --pop100 and --limit in a command of their own")
    if (args.pop100 or args.limit) and not args.run and not any(step > 2 for step in steps):
        raise UsageError("--pop100 and --limit choose tracts: they go with --run and steps 3 to 5")
    if not steps and not args.run and not args.rescan:
        raise UsageError("--spark does what? Give --step1 to --step6, --run for all of steps 3 to 5, or --rescan")


def _check_certainty(args: Arguments, action: str) -> None:
    """Options of step 6 and of claims."""
    if args.cells and 6 not in asked_steps(args):
        raise UsageError("--cells goes with --step6")
    if args.samples is not None and 6 not in asked_steps(args):
        raise UsageError("--samples goes with --step6")
    check_samples(args)
    if args.certificate is not None and action != "claim":
        raise UsageError("--certificate goes with --claim")


def check_samples(args: Arguments) -> None:
    """Raise UsageError for options of samples where none are drawn."""
    for option in ("keep_samples", "walk"):
        if getattr(args, option) and args.samples is None:
            raise UsageError(f"--{option} goes with --samples N")


def _check_files(args: Arguments, action: str) -> None:
    """Options of --rescan."""
    rescanning = action == "rescan" or (action == "spark" and args.rescan)
    if args.dry_run and not rescanning:
        raise UsageError("--dry_run goes with --rescan")
    if rescanning and args.tract:
        raise UsageError("--rescan checks whole counties: leave --tract out")


def _check_disclosure(args: Arguments, action: str) -> None:
    """Options of --export, --report, --audit, --reidentify and --make_attacker."""
    if args.partitioned and action != "export":
        raise UsageError("--partitioned goes with --export")
    if args.what_if and action not in ("audit", "report"):
        raise UsageError("--what_if goes with --audit or --report")
    if args.truth and action not in ("reidentify", "report", "certainty"):
        raise UsageError("--truth goes with --reidentify, --report or --certainty")
    if args.repeats is not None and action not in ("reidentify", "report"):
        raise UsageError("--repeats goes with --reidentify or --report")
    if args.out is not None and action not in ("export", "report", "audit", "make_attacker"):
        raise UsageError("--out goes with --export, --report, --audit or --make_attacker")
    drawing = action in ("register", "from_start", "report", "audit", "reidentify", "make_attacker") or args.samples is not None
    if args.seed is not None and not drawing:
        raise UsageError("--seed goes with --register, --report, --audit, --reidentify, --make_attacker or --samples")
