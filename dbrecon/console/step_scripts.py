"""The command lines of the scripts s0 ... s5: one step, done by hand."""

from __future__ import annotations

import os

from dbrecon.console.checks import check_samples
from dbrecon.console.commands import asked_place, asked_reident, find_experiment, open_ledger, states_asked
from dbrecon.console.entry import start_program
from dbrecon.console.options import VALIDATE, certainty_extras, seed, single_file_group, step_groups
from dbrecon.console.parser import PLACE_WORDS, Arguments, Group, Parser, flag
from dbrecon.errors import UsageError
from dbrecon.place import Place
from dbrecon.settings import Config

STATES_WORDS = "STUSAB ... | all"


def _parser(script: str, description: str, examples: str, force: str, *more: Group, words: str = PLACE_WORDS) -> Parser:
    """Return a script's parser. ``examples`` has one a line, without the script's name."""
    epilog = "examples:\n" + "".join(f"  {script} {line}\n" for line in examples.splitlines())
    return Parser(script, f"{script} --reident R [options] {words}", description, step_groups(force, *more), epilog, words)


# -- states: steps 0 to 2 -----------------------------------------------------------------------------------------------


def step0() -> int:
    """Run ``s0_download_data.py``."""
    checking = Group("check", "instead of downloading", (flag(VALIDATE[0], help=VALIDATE[1]),))
    parser = _parser(
        "s0_download_data.py",
        "Step 0: download states' SF1 zips from the Census Bureau into dist/, or check what lies there.\n"
        "States by their two letters, or all (51; with --validate those in dist/, also if none is named).",
        "--reident r1 ri de\n--reident r1 --validate",
        "download again what is whole already",
        checking,
        words=STATES_WORDS,
    )
    return start_program(parser, _download)


def _download(args: Arguments) -> int:
    from dbrecon.steps.download import download, each_state, report_validity, states_to_download

    words = _whole_states(args, 0)
    experiment = find_experiment(Config.load(), asked_reident(args))
    if args.validate:
        return report_validity(experiment, words)
    each_state(states_to_download(words), lambda stusab: download(experiment, stusab, args.force))
    return 0


def step1() -> int:
    """Run ``s1_make_geo_files.py``."""
    parser = _parser(
        "s1_make_geo_files.py",
        "Step 1: the geographic header of states' zips becomes geofile_ST.csv, and geography and tracts in the database.\n"
        "States by their two letters, or all: those whose zip is in dist/ (also if none is named).",
        "--reident r1 az\n--reident r1 all",
        "make it new; the state's tracts begin anew",
        words=STATES_WORDS,
    )
    return start_program(parser, lambda args: _of_states(args, 1))


def step2() -> int:
    """Run ``s2_pandas_build_csv.py``."""
    parser = _parser(
        "s2_pandas_build_csv.py",
        "Step 2: the segments of states' zips become one block file and one tract file per county.\n"
        "States by their two letters, or all: those whose zip is in dist/ (also if none is named).",
        "--reident r1 az\n--reident r1 all",
        "make again the counties whose files are there",
        words=STATES_WORDS,
    )
    return start_program(parser, lambda args: _of_states(args, 2))


def _of_states(args: Arguments, step: int) -> int:
    from dbrecon.console.step_commands import do_states
    from dbrecon.steps.prepare import open_experiment

    words, config, reident = _whole_states(args, step), Config.load(), asked_reident(args)
    ledger = open_ledger(config)
    do_states([step], open_experiment(ledger, config, reident), ledger, words, args.force)
    return 0


def _whole_states(args: Arguments, step: int) -> list[str]:
    """Return the states that are named. UsageError for a part of one."""
    part = args.county or args.tract
    if part:
        raise UsageError(f"step {step} does whole states: leave {part} out")
    return states_asked(args)


# -- tracts: steps 3 and 4 ----------------------------------------------------------------------------------------------


def step3() -> int:
    """Run ``s3_pandas_synth_lp_files.py``."""
    parser = _parser(
        "s3_pandas_synth_lp_files.py",
        "Step 3: a county's tables -> one integer program a tract, as LP text.",
        "--reident r1 oh 059 977100\n--reident r1 oh 059 977100,977200 --force\n--reident r1 all",
        "make again what exists",
    )
    return start_program(parser, lambda args: _of_tracts(args, 3))


def step4() -> int:
    """Run ``s4_run_gurobi.py``."""
    parser = _parser(
        "s4_run_gurobi.py",
        "Step 4: a tract's integer program -> its checked solution, with HiGHS or Gurobi.",
        "--reident r1 oh 059 977100\n--reident r1 oh 059 977100,977200 --force\n--lp FILE.lp.gz",
        "make again what exists",
        single_file_group(),
    )
    return start_program(parser, _solve)


def _of_tracts(args: Arguments, step: int) -> int:
    from dbrecon.node.daemon import run_here

    place, config = asked_place(args), Config.load()
    return run_here(open_ledger(config), config, asked_reident(args), place, frozenset({step}), args.force)


def _solve(args: Arguments) -> int:
    if args.lp is None and args.sol is not None:
        raise UsageError(f"--sol {args.sol} says where the solution of --lp FILE goes: give --lp too")
    if args.lp is None:
        return _of_tracts(args, 4)
    from dbrecon.ctools import storage
    from dbrecon.steps.solutions import solve_file

    storage.look_named(args.lp)
    print(solve_file(Config.load(), args.lp, _solution_path(args)))
    return 0


def _solution_path(args: Arguments) -> str:
    """Where the solution of --lp is to go. UsageError for options that do not go with it, and for what must not be overwritten."""
    from dbrecon.ctools import storage

    for value in (args.stusab, args.county, args.tract):
        if value is not None:
            raise UsageError(f"--lp {args.lp} is solved for no experiment: leave the place ({value}) out")
    if args.reident != (os.environ.get("REIDENT") or None):
        raise UsageError(f"--lp {args.lp} is solved for no experiment: leave --reident out")
    sol = args.sol or f"{args.lp.removesuffix('.gz').removesuffix('.lp')}.sol.gz"
    if _real(sol) == _real(args.lp):
        raise UsageError(f"--sol {sol} is the LP file itself: name another file")
    if not storage.is_s3(sol) and os.path.isdir(sol):
        raise UsageError(f"--sol {sol} is a folder: name a file")
    if storage.exists(sol) and not args.force:
        raise UsageError(f"{sol} exists: name another file with --sol, or overwrite it with --force")
    return str(sol)


def _real(path: str) -> str:
    return path if path.startswith("s3://") else os.path.realpath(path)


# -- counties: step 5 ---------------------------------------------------------------------------------------------------


def step5() -> int:
    """Run ``s5_make_microdata.py``."""
    parser = _parser(
        "s5_make_microdata.py",
        "Step 5: writes the people of counties whose tracts are all solved.",
        "--reident r1 oh 059            the people of county 059 of Ohio\n"
        "--reident r1 oh                every county of Ohio whose tracts are all solved\n"
        "--reident r1 oh 059 --force    again, though the file exists",
        "write what is written already",
        words="STUSAB [COUNTY] | all",
    )
    return start_program(parser, _write_people)


# -- counties: step 6 ---------------------------------------------------------------------------------------------------


def step6() -> int:
    """Run ``s6_certainty.py``."""
    more = Group("certainty", "more", (*certainty_extras(""), seed()))
    parser = _parser(
        "s6_certainty.py",
        "Step 6: how sure the people are: how many of each block may differ in another data set with the same tables.",
        "--reident r1 oh 059            county 059 of Ohio\n"
        "--reident r1 oh                every county of Ohio whose people are written\n"
        "--reident r1 oh 059 --cells    and the least and most of every count",
        "compute again what is there",
        more,
        words="STUSAB [COUNTY] | all",
    )
    return start_program(parser, _certify)


def _certify(args: Arguments) -> int:
    from dbrecon.console.certainty_commands import asked_samples, certify_counties
    from dbrecon.steps.prepare import open_experiment

    if not args.stusab:
        raise UsageError("name a state, or all: s6_certainty.py --reident R oh 059")
    place, config, reident = asked_place(args), Config.load(), asked_reident(args)
    check_samples(args)
    if args.samples is None and args.seed is not None:
        raise UsageError("--seed goes with --samples N")
    ledger = open_ledger(config, make=False)
    experiment = open_experiment(ledger, config, reident)
    certify_counties(experiment, ledger, place, cells=args.cells, force=args.force, samples=asked_samples(args))
    return 0


def _write_people(args: Arguments) -> int:
    from dbrecon.console.step_commands import write_counties
    from dbrecon.steps.prepare import open_experiment

    if not args.stusab:
        raise UsageError("name a state, or all: s5_make_microdata.py --reident R oh 059")
    place, config, reident = asked_place(args), Config.load(), asked_reident(args)
    if place.tracts:
        raise UsageError(f"people are written by whole counties: leave tract {args.tract} out")
    ledger = open_ledger(config)
    experiment = open_experiment(ledger, config, reident)
    for stusab in [place.stusab] if place.stusab else ledger.stusabs(reident):
        write_counties(experiment, ledger, Place(stusab, place.county), args.force)
    return 0
