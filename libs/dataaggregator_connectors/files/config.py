"""How a files connector is configured."""

from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dataaggregator.connector.spec import Config

Format = Literal["csv", "json", "ndjson", "parquet"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".parquet": "parquet",
}


class CsvOptions(BaseModel):
    """How CSV is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    delimiter: str = Field(",", min_length=1, max_length=1, description="One character between fields.")
    header: bool = Field(True, description="Whether the first line names the columns; else they are column_1, ….")
    null: tuple[str, ...] = Field(("",), description="Unquoted texts that mean NULL.")
    encoding: str = Field("utf-8", description="Encoding of the text.")
    quote: str = Field('"', min_length=1, max_length=1, description="Character around fields.")


class FilesConfig(Config):
    """A folder below one of the allowed roots."""

    root: str = Field(description="file:///… : the folder streams are looked for in.")
    format: Literal["auto", "csv", "json", "ndjson", "parquet"] = Field(
        "auto", description="Format of the files; auto goes by their names."
    )
    csv: CsvOptions = Field(default_factory=lambda: CsvOptions.model_validate({}), description="How CSV is written.")

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
        if name.endswith(".tsv") and "delimiter" not in self.csv.model_fields_set:
            return self.csv.model_copy(update={"delimiter": "\t"})
        return self.csv
