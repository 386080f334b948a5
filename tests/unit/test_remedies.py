"""What an error says to a person: what is wrong, and what to do about it."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from dbrecon.errors import InputError, RemoteError, Subject
from dbrecon.recon.tract.model import NegativeCount
from dbrecon.remedies import explain, sentence


def raised(raises: Callable[[], object]) -> Exception:
    with pytest.raises(InputError) as caught:
        raises()
    return caught.value


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InputError("x: is cut off.", about=Subject.LP_FILE), "x: is cut off; make it again (--step3 --force)"),
        (
            InputError("x: has no tract", about=Subject.GEOFILE, place="ri"),
            "x: has no tract; remove it and make it again (--step1 --stusab ri)",
        ),
        (
            InputError("x: was changed", about=Subject.SOLUTION, place="oh 059 977100"),
            "x: was changed; make the solution again (--step4 --force --stusab oh --county 059 --tract 977100)",
        ),
        (InputError("x: is no zip; name another."), "x: is no zip; name another."),
        (OSError("no such device"), "no such device"),
    ],
)
def test_a_sentence_ends_with_what_to_do_about_its_subject(error: Exception, expected: str) -> None:
    assert sentence(error) == expected


@pytest.mark.parametrize(
    "error",
    [
        RemoteError("gone", about=Subject.EMR_CLUSTER),
        InputError("no tract", about=Subject.GEOFILE, place="ri"),
        NegativeCount("minus one person", "P12", (("P12", 1, -1),)),
    ],
)
def test_an_error_keeps_what_it_is_about_between_processes(error: Exception) -> None:
    assert sentence(pickle.loads(pickle.dumps(error))) == sentence(error) != str(error)


def test_a_cause_is_told_with_its_remedy_unless_its_text_stands_in_the_error_already() -> None:
    def fail(text: str) -> None:
        try:
            raise RemoteError("no such cluster j-1", about=Subject.EMR_CLUSTER)
        except RemoteError as error:
            raise InputError(text) from error

    shown = explain(raised(lambda: fail("nothing to resize")))
    assert shown.startswith("nothing to resize <- no such cluster j-1; name the cluster in [cluster] emr_cluster_id")
    assert explain(raised(lambda: fail("stopped: no such cluster j-1"))) == "stopped: no such cluster j-1"
