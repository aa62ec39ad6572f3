"""Tables of the index. A change here raises VERSION; an index of another version is rebuilt."""

from __future__ import annotations

from typing import Final

VERSION: Final = 1

# kind of a param or tag value
TEXT: Final = 0
NUMBER: Final = 1
NAN: Final = 2

# sections of the key table
METRIC: Final = 0
PARAM: Final = 1
TAG: Final = 2

TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE keys (key_id INTEGER PRIMARY KEY, section INTEGER NOT NULL, key TEXT NOT NULL,
                   UNIQUE (section, key));
CREATE TABLE experiments (experiment_id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
-- Everything about a run that is single-valued. `position` orders runs: ids that carry their time, and
-- start times for those that do not.
CREATE TABLE runs (
  rid INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, backwards TEXT NOT NULL, position TEXT NOT NULL,
  record TEXT, folder TEXT,
  run_name TEXT, experiment_id TEXT, status TEXT, user_id TEXT, start_time INTEGER, end_time INTEGER,
  lifecycle_stage TEXT, dirty INTEGER, parent TEXT, source TEXT, environment TEXT, inputs TEXT,
  key_ids BLOB -- what rows of metrics and texts it has, as 32-bit numbers: to remove them without a search
);
-- A NULL in a number column means NaN, which SQLite cannot store.
CREATE TABLE metrics (
  key_id INTEGER, rid INTEGER, last REAL, min REAL, max REAL, count INTEGER, step INTEGER,
  PRIMARY KEY (key_id, rid)
) WITHOUT ROWID;
CREATE TABLE texts (
  key_id INTEGER, rid INTEGER, kind INTEGER, num REAL, value TEXT,
  PRIMARY KEY (key_id, rid)
) WITHOUT ROWID;
"""

INDEXES: Final = """
CREATE INDEX IF NOT EXISTS runs_backwards ON runs (backwards);
CREATE INDEX IF NOT EXISTS runs_position ON runs (position);
CREATE INDEX IF NOT EXISTS runs_name ON runs (run_name);
CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent) WHERE parent IS NOT NULL;
"""
