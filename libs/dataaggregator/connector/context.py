"""What a connector is given to work with: the one way out, the allowed folders, a folder of its own, a log."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from dataaggregator.connector.egress import Egress
from dataaggregator.connector.kept import Kept


@dataclass(frozen=True)
class Context:
    """`egress` is the only way to connect; `allowed_roots` bound what files may be touched; `folder` is scratch."""

    egress: Egress
    folder: Path
    allowed_roots: tuple[Path, ...] = ()
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("dataaggregator.connector"))
    kept: Kept | None = None
    """Where connections may be left for the next job; None: everything ends with this one."""
