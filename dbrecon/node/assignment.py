"""What a scheduler is to do, and what it did."""

from dataclasses import dataclass, field

from dbrecon.ctools.progress import counted
from dbrecon.ledger.records import CertaintyClaim, Claim, CountyClaim, Quarantine
from dbrecon.node.tasks import Failure
from dbrecon.place import EVERYWHERE, Place


@dataclass(frozen=True)
class Assignment:
    """What a scheduler is to do: ``steps`` of 3 to 6, where, and how much."""

    steps: frozenset[int]
    place: Place = EVERYWHERE
    limit: int | None = None
    ascending: bool = False

    def text(self) -> str:
        """For people: "steps 3, 4 in oh 059, at most 10 tracts"."""
        text = f"{'step' if len(self.steps) == 1 else 'steps'} {', '.join(map(str, sorted(self.steps)))}"
        text += "" if self.place == EVERYWHERE else f" in {self.place.text()}"
        return text if self.limit is None else f"{text}, at most {counted(self.limit, 'tract')}"


@dataclass
class Outcome:
    """What a scheduler did. ``seconds``: wall time; ``lps`` counts LP files made by step 3 alone; ``ended`` says why it left early
    (its work in hand was finished first); ``left`` are the tracts and counties that remained then."""

    lps: int = 0
    solved: int = 0
    people: int = 0
    counties: int = 0
    certain_tracts: int = 0
    certain_counties: int = 0
    put_back: int = 0
    quarantined: list[tuple[str, Quarantine]] = field(default_factory=list)
    seconds: float = 0.0
    node_failure: Failure | None = None
    halted: bool = False
    ended: str = ""
    left: tuple[int, int] = (0, 0)

    @property
    def did_something(self) -> bool:
        """Whether there is anything to tell."""
        broken_off = self.put_back or self.node_failure or self.halted or self.ended
        return bool(self.lps or self.solved or self.counties or self.certain_tracts or self.certain_counties or broken_off)

    def count_lp(self, _claim: Claim) -> None:
        """Count an LP file that step 3 alone has made."""
        self.lps += 1

    def count_solved(self, claim: Claim) -> None:
        """Count a tract that is solved."""
        self.solved += 1
        self.people += claim.pop

    def count_certain(self, claim: CertaintyClaim) -> None:
        """Count a tract whose certainty is computed, or a county whose files of it are written."""
        if claim.of_county:
            self.certain_counties += 1
        else:
            self.certain_tracts += 1

    def count_county(self, _claim: CountyClaim) -> None:
        """Count a county whose people are written."""
        self.counties += 1
