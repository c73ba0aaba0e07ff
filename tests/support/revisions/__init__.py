"""Migrations that tests and bench/migrate.py add to those of this version."""
