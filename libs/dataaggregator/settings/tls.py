"""Settings of TLS towards callers."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from dataaggregator.settings.bounds import BoundSettings


class TlsSettings(BoundSettings):
    """The files are read at the start, and again when they are renewed."""

    tls_certificate: Path | None = Field(
        None,
        description="File with the certificate (PEM) by which the gateway answers over TLS, those between it and its "
        "authority behind it; taken up anew when it changes. The other services use it where their own address, such "
        "as AUTH_URL, begins with https. Without it they answer in the clear.",
    )
    tls_key: Path | None = Field(
        None, description="File with the private key (PEM, without a passphrase) of TLS_CERTIFICATE."
    )

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            there, lacking = ("TLS_KEY", "TLS_CERTIFICATE") if self.tls_key else ("TLS_CERTIFICATE", "TLS_KEY")
            raise ValueError(f"{lacking}: should be set as well, since {there} is: both name a file, or neither does")
        return self
