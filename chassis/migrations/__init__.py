"""Migrations: numbered SQL files, applied once each, and the tables of read models.

The SQL files beside this module are the chassis' own; every service's database gets them first.
"""

from chassis.migrations.runner import CHASSIS, MigrationError, Migrations, migrate

__all__ = ["CHASSIS", "MigrationError", "Migrations", "migrate"]
