"""Where files may be: below the connector's root, which lies below an allowed root, with links followed first."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dataaggregator.connector.context import Context
from dataaggregator.errors import Denied, Invalid, NotFound
from dataaggregator_connectors.files.config import SUFFIXES, FilesConfig, Format

LONGEST_NAME_BYTES = 255  # NAME_MAX of Linux' file systems
OWN_FOLDER = "_dataaggregator"


class Places:
    """The connector's folder; every path that leaves here has been resolved and lies within it."""

    def __init__(self, config: FilesConfig, context: Context) -> None:
        self._config = config
        self._allowed = tuple(root.resolve() for root in context.allowed_roots)
        self.root = self._within_allowed(Path(config.folder))

    def _within_allowed(self, path: Path) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self._allowed):
            raise Denied("files-denied", f"{path} does not lie below a folder in FILES_ALLOWED_ROOTS.")
        return real

    def path(self, name: str) -> Path:
        """The real path of a name below the root; links that lead out of it are refused."""
        relative = PurePosixPath(name)
        if not name or "\0" in name or relative.is_absolute() or ".." in relative.parts:
            raise Invalid("stream-invalid", f"{name!r} should be a path below the connector's root.")
        if any(len(part.encode(errors="replace")) > LONGEST_NAME_BYTES for part in relative.parts):
            raise Invalid("stream-invalid", f"A name in {name[:40]!r}… is longer than {LONGEST_NAME_BYTES} bytes.")
        real = (self.root / relative).resolve()
        if not real.is_relative_to(self.root):
            raise Denied("files-denied", f"{name!r} leads out of the connector's root.")
        return self._within_allowed(real)

    def find(self, stream: str) -> Sequence[Path]:
        """The files of a stream: one, all of a folder, or all a glob fits; in order of name."""
        plain = self.path(stream)
        if plain.is_dir():
            found = [path for path in plain.iterdir() if path.suffix.lower() in SUFFIXES]
        elif plain.is_file():
            found = [plain]
        else:
            found = list(self.root.glob(stream))
        kept = sorted({self.path(self.name(path)) for path in found if path.is_file() and self._shown(path)})
        if not kept:
            raise NotFound("stream-missing", f"No file fits {stream!r} below the connector's root.")
        return kept

    def all_files(self) -> Sequence[Path]:
        """Every file of a known format below the root whose real path lies there too."""
        found = (path for path in self.root.rglob("*") if path.suffix.lower() in SUFFIXES and self._shown(path))
        return sorted(path for path in found if path.is_file() and path.resolve().is_relative_to(self.root))

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _shown(self, path: Path) -> bool:
        return OWN_FOLDER not in path.relative_to(self.root).parts

    def format_of(self, name: str, default: Format | None = None) -> Format:
        if self._config.format != "auto":
            return self._config.format
        known = SUFFIXES.get(PurePosixPath(name).suffix.lower(), default)
        if known is None:
            raise Invalid("files-format-unknown", f"The format of {name!r} does not show in its name.")
        return known
