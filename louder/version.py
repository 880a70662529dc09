"""The version, where anything may import it without importing the rest."""

__version__ = "0.1.0"
