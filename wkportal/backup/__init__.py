"""Backups of the database, and how one takes the place of the database."""
