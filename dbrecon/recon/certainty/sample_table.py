"""Samples as Parquet: whole data sets, with the people whom they have in common."""

from typing import IO, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import IntArray
from dbrecon.recon.certainty.cell_table import cell_columns
from dbrecon.recon.certainty.sampling import Samples
from dbrecon.recon.people.attributes import Attributes
from dbrecon.recon.tract.model import Model


def write_samples(
    model: Model, bins: AgeBins, counts: IntArray, drawn: Samples, out: BinaryIO | IO[bytes], attributes: Attributes | None = None
) -> None:
    """Write a row for each filled cell of each sample: ``sample`` (from 1), ``geoid_block``, ``sex``, ``age_first``, ``age_last``
    (null for the open interval at the end), a flag a race, ``hisp`` and ``count``. ``counts`` (variables,) are the people's."""
    order = np.lexsort((model.kind, model.block))
    tables = []
    for number, values in enumerate(drawn.values, 1):
        whole = counts.copy()
        whole[drawn.columns] = values
        filled = order[whole[order] > 0]
        columns = {"sample": np.full(len(filled), number, np.int32)}
        columns |= cell_columns(model.geoid, bins, model.blocks, model.block[filled], model.kind[filled], attributes)
        tables.append(pa.table(columns | {"count": whole[filled].astype(np.int32)}))
    schema = tables[0].schema
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
