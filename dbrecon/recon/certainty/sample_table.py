"""Samples as Parquet: whole data sets, with the people whom they have in common."""

from typing import IO, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dbrecon.recon.census.bins import AgeBins
from dbrecon.recon.census.kinds import FIRST_AGES, N_AGES, RACES, SEXES, IntArray
from dbrecon.recon.certainty.sampling import Samples
from dbrecon.recon.tract.model import Model


def write_samples(model: Model, bins: AgeBins, counts: IntArray, drawn: Samples, out: BinaryIO | IO[bytes]) -> None:
    """Write a row for each filled cell of each sample: ``sample`` (from 1), ``geoid_block``, ``sex``, ``age_first``, ``age_last``
    (null for the open interval at the end), a flag a race, ``hisp`` and ``count``. ``counts`` (variables,) are the people's."""
    order = np.lexsort((model.kind, model.block))
    tables = []
    for number, values in enumerate(drawn.values, 1):
        whole = counts.copy()
        whole[drawn.columns] = values
        filled = order[whole[order] > 0]
        tables.append(_rows(model, bins, number, filled, whole[filled]))
    schema = tables[0].schema
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _rows(model: Model, bins: AgeBins, number: int, cells: IntArray, count: IntArray) -> pa.Table:
    sex, age, race, hisp = bins.split(model.kind[cells])
    last = bins.last[age]
    following = np.append(FIRST_AGES, 0)[last + 1] - 1
    names = pa.array([f"{model.geoid}{block:04d}" for block in model.blocks.tolist()])
    columns: dict[str, Any] = {
        "sample": np.full(len(cells), number, np.int32),
        "geoid_block": pa.DictionaryArray.from_arrays(model.block[cells].astype(np.int32), names),
        "sex": pa.DictionaryArray.from_arrays(sex.astype(np.int32), pa.array(SEXES)),
        "age_first": FIRST_AGES[bins.first[age]].astype(np.int16),
        "age_last": pa.array(following.astype(np.int16), mask=last == N_AGES - 1),
    }
    for bit, name in enumerate(RACES):
        columns[name] = (race >> (len(RACES) - 1 - bit) & 1).astype(bool)
    return pa.table(columns | {"hisp": hisp.astype(bool), "count": count.astype(np.int32)})
