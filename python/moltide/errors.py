"""The exceptions a user of moltide can meet; each is also a builtin that Python users expect."""

from __future__ import annotations


class MoltideError(Exception):
    """Base of every error moltide raises on purpose."""


class CheckpointError(MoltideError, ValueError):
    """A checkpoint or adapter that cannot be read, or does not fit the model."""


class DataError(MoltideError, ValueError):
    """A table, sequence or label that cannot be used as it is."""


class ConfigError(MoltideError, ValueError):
    """An option or configuration value outside what is allowed."""


class MissingDependencyError(MoltideError, ImportError):
    """An optional library is needed; the message carries the pip line."""


class MemoryPlanError(MoltideError, MemoryError):
    """The predicted memory of a step is more than the machine has."""
