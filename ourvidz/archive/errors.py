"""What can be wrong with an archive."""


class ArchiveDamaged(Exception):
    """An archive is not what was written. Nothing is removed for its sake."""


class ArchiveBusy(Exception):
    """Somebody else is archiving into the same folder."""
