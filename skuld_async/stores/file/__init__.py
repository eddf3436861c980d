"""FileStore: runs in a folder, one file for each, which a person can read."""

from .errors import DamagedFileError as DamagedFileError
from .errors import FolderInUseError as FolderInUseError
from .store import FileStore as FileStore

__all__ = ["DamagedFileError", "FileStore", "FolderInUseError"]
