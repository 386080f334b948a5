"""HiGHS without a word of its own: what a command prints is what it has found."""

from collections.abc import Mapping

import highspy
import numpy as np
import numpy.typing as npt

from dbrecon.recon.solve.program import FloatArray

Numbers = npt.NDArray[np.integer | np.floating]
INTEGER, CONTINUOUS = int(highspy.HighsVarType.kInteger), int(highspy.HighsVarType.kContinuous)


class QuietHighs(highspy.Highs):
    """A solver of one thread, whose answers are the same on any machine, with ``options`` set."""

    def __init__(self, options: Mapping[str, bool | int | float | str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setOptionValue("threads", 1)
        self.setOptionValue("parallel", "off")
        for name, value in options.items():
            self.setOptionValue(name, value)

    def enableCallbacks(self) -> None:  # noqa: N802 - highspy calls it by this name
        """Silence it first: highspy calls this while it makes a solver, and from 1.16 on prints its name at it."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]

    def load(
        self,
        rows: tuple[Numbers, Numbers, Numbers],
        row_bounds: tuple[Numbers, Numbers],
        bounds: tuple[Numbers, Numbers],
        cost: FloatArray,
        kinds: "npt.NDArray[np.int32] | int",
        constant: float = 0.0,
    ) -> None:
        """Pass a program to minimise: starts, columns and values of its rows, from and to what each row and each of the (n,)
        variables may be, their costs, and which are INTEGER or CONTINUOUS."""
        starts, columns, values = rows
        self.passModel(
            len(cost),
            len(starts) - 1,
            len(columns),
            int(highspy.MatrixFormat.kRowwise),
            int(highspy.ObjSense.kMinimize),
            constant,
            cost,
            np.asarray(bounds[0], np.float64),
            np.asarray(bounds[1], np.float64),
            np.asarray(row_bounds[0], np.float64),
            np.asarray(row_bounds[1], np.float64),
            starts.astype(np.int32),
            columns.astype(np.int32),
            np.asarray(values, np.float64),
            np.full(len(cost), kinds, np.int32),
        )
