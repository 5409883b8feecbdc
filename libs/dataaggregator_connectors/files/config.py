"""How a files connector is configured."""

import re
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

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
TABBED = re.compile(r"\.tsv(\.[a-z0-9]+)?$", re.IGNORECASE)
# The libraries below end the process at an address, a bucket or a key that HTTP cannot carry.
ENDPOINT = re.compile(
    r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?", re.ASCII
)
BUCKET = re.compile(r"[A-Za-z0-9$._:-]+", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
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

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            "".encode(name)  # what is known but no encoding of text, as base64, is refused as well
        except (LookupError, ValueError) as error:
            raise ValueError("should be an encoding of text such as utf-8, utf-16, latin-1 or cp1252") from error
        return name


class ExcelOptions(Options):
    """How a sheet is laid out."""

    header: bool = Field(True, description="Whether the first row names the columns; else they are column_1, ….")
    skip_rows: int = Field(0, ge=0, description="Rows above the header (or the first row) that are not part of it.")


class Expansion(Options):
    """How much a compressed file may become before it is taken for one that was made to fill a memory."""

    most_bytes: int = Field(2**40, ge=1, description="Bytes one file may become.")
    most_times: int = Field(250, ge=1, description="Times its size one file may become, beyond its first 64 MiB.")


class Credentials(Options):
    """Who reads and writes a bucket; without any the bucket is asked as anybody may ask it."""

    access_key_id: str | None = Field(None, description="s3: the key's id.")
    secret_access_key: SecretStr | None = Field(None, description="s3: the key.")
    session_token: SecretStr | None = Field(None, description="s3: token of a key that ends.")
    account: str | None = Field(None, description="az: the storage account.")
    account_key: SecretStr | None = Field(None, description="az: the account's key.")
    sas_token: SecretStr | None = Field(None, description="az: a shared access signature instead of the key.")
    service_account_key: SecretStr | None = Field(None, description="gs: the JSON key of a service account.")

    @property
    def given(self) -> dict[str, str]:
        """What is given, in the clear."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in values.items()
            if value is not None
        }


OF_SCHEME = {
    "s3": {"access_key_id", "secret_access_key", "session_token"},
    "az": {"account", "account_key", "sas_token"},
    "gs": {"service_account_key"},
}
IN_HEADERS = {"access_key_id", "session_token", "account", "sas_token"}


def _is_address(endpoint: str) -> bool:
    """Can HTTP carry it?"""
    match = ENDPOINT.fullmatch(endpoint)
    return match is not None and int((match[2] or ":0")[1:]) < 65_536


class FilesConfig(Config):
    """A folder below one of the allowed roots, a bucket, or a web server."""

    root: str = Field(
        description="What streams are below: file:///…, s3://bucket/prefix, az://container/prefix, gs://bucket/prefix, "
        "or https://… to read only."
    )
    endpoint: str | None = Field(
        None, description="Address of an S3 or Azure store that is not Amazon's or Microsoft's."
    )
    sslrootcert: str | None = Field(
        None, description="Certificates (PEM text) the endpoint's may come from, beside those every machine trusts."
    )
    region: str | None = Field(None, description="s3: the bucket's region; us-east-1 when left out.")
    credentials: Credentials = Field(
        default_factory=lambda: Credentials.model_validate({}), description="Who reads and writes a bucket."
    )
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
    fetched_bytes: int = Field(
        10 * 2**30, ge=1, description="https: bytes a file may have, since it is fetched whole before it is read."
    )
    hive: bool = Field(True, description="Whether folders such as year=2026 are columns of the files below them.")
    partition_by: tuple[str, ...] = Field(
        (), description="Columns whose values become folders when a stream is written."
    )

    @model_validator(mode="after")
    def _rooted(self) -> Self:
        split = urlsplit(self.root)
        if self.scheme == "file":
            if split.netloc not in ("", "localhost") or not split.path.startswith("/"):
                raise ValueError("root should be file:/// and an absolute path")
        elif self.scheme not in ("s3", "az", "gs", "https", "http") or not split.hostname:
            raise ValueError(
                "root should be file:///…, s3://bucket/…, az://container/…, gs://bucket/… or https://host/…"
            )
        if self.scheme in OF_SCHEME and not BUCKET.fullmatch(split.netloc):
            raise ValueError("root should name a bucket of letters, digits and . _ - $ : alone")
        if split.username or split.password or split.query or split.fragment:
            raise ValueError("root should have no user, password, ? or #; credentials have their own fields")
        return self

    @model_validator(mode="after")
    def _credible(self) -> Self:
        given = self.credentials.given
        if odd := sorted(given.keys() - OF_SCHEME.get(self.scheme, set())):
            raise ValueError(f"credentials: {', '.join(odd)} are not of a root that begins with {self.scheme}:")
        if ("access_key_id" in given) != ("secret_access_key" in given) or given.keys() == {"session_token"}:
            raise ValueError("credentials: access_key_id and secret_access_key belong together")
        if self.scheme == "az" and ("account" not in given or {"account_key", "sas_token"} <= given.keys()):
            raise ValueError("credentials: az wants account, and account_key or sas_token or neither")
        if broken := sorted(name for name, value in given.items() if name in IN_HEADERS and CONTROL.search(value)):
            raise ValueError(f"credentials: {', '.join(broken)} should have no line breaks or other control characters")
        if self.endpoint is not None and (self.scheme not in ("s3", "az") or not _is_address(self.endpoint)):
            raise ValueError("endpoint should be http(s)://host[:port][/path] in ASCII, and stands with s3 and az only")
        if self.sslrootcert is not None and self.endpoint is None:
            raise ValueError("sslrootcert stands with endpoint only")
        if self.region is not None and (self.scheme != "s3" or CONTROL.search(self.region)):
            raise ValueError("region stands with s3 only, and has no control characters")
        return self

    @property
    def scheme(self) -> str:
        return urlsplit(self.root).scheme

    @property
    def bucket(self) -> str:
        return urlsplit(self.root).netloc

    @property
    def folder(self) -> str:
        return unquote(urlsplit(self.root).path)

    def csv_of(self, name: str) -> CsvOptions:
        """The options for one file: a .tsv is separated by tabs unless somebody said otherwise."""
        if TABBED.search(name) and "delimiter" not in self.csv.model_fields_set:
            return self.csv.model_copy(update={"delimiter": "\t"})
        return self.csv
