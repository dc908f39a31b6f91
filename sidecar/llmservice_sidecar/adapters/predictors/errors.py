"""What can be wrong with a trained model on disk."""


class ArtefactError(ValueError):
    """A file or directory is no model that this version understands; the message says why."""
