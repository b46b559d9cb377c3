"""Migrations: numbered SQL files, applied once each, and the tables of read models.

The SQL files beside this module are the framework's own; every service's database gets them first.
"""

from millrace.migrations.hardening import not_hardened
from millrace.migrations.runner import FRAMEWORK, MigrationError, Migrations, migrate

__all__ = ["FRAMEWORK", "MigrationError", "Migrations", "migrate", "not_hardened"]
