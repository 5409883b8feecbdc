"""How many rows of a Parquet file are about as much as a batch is to be."""

from collections.abc import Sequence

import pyarrow.parquet as pq

from dataaggregator.dataplane.batch import BATCH_BYTES


def rows_at_once(file: pq.ParquetFile, most_rows: int, columns: Sequence[str] | None = None) -> int:
    """By the group with the largest rows, as the file says; what its dictionaries make shorter is not seen."""
    groups = (file.metadata.row_group(at) for at in range(file.metadata.num_row_groups))
    row_bytes = max((_bytes_of(group, columns) // max(1, group.num_rows) for group in groups), default=0)
    return max(1, min(most_rows, BATCH_BYTES // max(1, row_bytes)))


def _bytes_of(group: pq.RowGroupMetaData, columns: Sequence[str] | None) -> int:
    chunks = (group.column(at) for at in range(group.num_columns))
    wanted = None if columns is None else set(columns)
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if wanted is None or chunk.path_in_schema in wanted or chunk.path_in_schema.partition(".")[0] in wanted
    )
