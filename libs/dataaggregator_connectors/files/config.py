"""How a files connector is configured."""

from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dataaggregator.connector.spec import Config

Format = Literal["csv", "json", "ndjson", "parquet", "arrow", "excel"]
Compression = Literal["gzip", "zstd", "bz2", "lz4"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "excel",
    ".xlsm": "excel",
}
PACKED: dict[str, Compression] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".lz4": "lz4",
}
TEXTS: tuple[Format, ...] = ("csv", "json", "ndjson")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class CsvOptions(Options):
    """How CSV is written."""

    delimiter: str = Field(",", min_length=1, max_length=1, description="One character between fields.")
    header: bool = Field(True, description="Whether the first line names the columns; else they are column_1, ….")
    null: tuple[str, ...] = Field(("",), description="Unquoted texts that mean NULL.")
    encoding: str = Field("utf-8", description="Encoding of the text.")
    quote: str = Field('"', min_length=1, max_length=1, description="Character around fields.")


class ExcelOptions(Options):
    """How a sheet is laid out."""

    header: bool = Field(True, description="Whether the first row names the columns; else they are column_1, ….")
    skip_rows: int = Field(0, ge=0, description="Rows above the header (or the first row) that are not part of it.")


class Expansion(Options):
    """How much a compressed file may become before it is taken for one that was made to fill a memory."""

    most_bytes: int = Field(2**40, ge=1, description="Bytes one file may become.")
    most_times: int = Field(250, ge=1, description="Times its size one file may become, beyond its first 64 MiB.")


class FilesConfig(Config):
    """A folder below one of the allowed roots."""

    root: str = Field(description="file:///… : the folder streams are looked for in.")
    format: Literal["auto", "csv", "json", "ndjson", "parquet", "arrow", "excel"] = Field(
        "auto", description="Format of the files; auto goes by their names."
    )
    compression: Literal["auto", "none", "gzip", "zstd", "bz2", "lz4"] = Field(
        "auto", description="Compression of csv, json and ndjson; auto goes by the names (.gz, .zst, .bz2, .lz4)."
    )
    csv: CsvOptions = Field(default_factory=lambda: CsvOptions.model_validate({}), description="How CSV is written.")
    excel: ExcelOptions = Field(
        default_factory=lambda: ExcelOptions.model_validate({}), description="How sheets are laid out."
    )
    expansion: Expansion = Field(
        default_factory=lambda: Expansion.model_validate({}), description="What compressed files may become."
    )
    hive: bool = Field(True, description="Whether folders such as year=2026 are columns of the files below them.")
    partition_by: tuple[str, ...] = Field(
        (), description="Columns whose values become folders when a stream is written."
    )

    @model_validator(mode="after")
    def _local(self) -> Self:
        split = urlsplit(self.root)
        if split.scheme != "file" or split.netloc not in ("", "localhost") or not split.path.startswith("/"):
            raise ValueError("root should be file:/// and an absolute path")
        return self

    @property
    def folder(self) -> str:
        return unquote(urlsplit(self.root).path)

    def csv_of(self, name: str) -> CsvOptions:
        """The options for one file: a .tsv is separated by tabs unless somebody said otherwise."""
        if ".tsv" in name and "delimiter" not in self.csv.model_fields_set:
            return self.csv.model_copy(update={"delimiter": "\t"})
        return self.csv
