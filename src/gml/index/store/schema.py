"""Tables of the index. A change here raises VERSION; an index of another version is made anew.

A value of a run under a key is a row whose id is `key_id << 32 | rid`: all rows of a key lie side by side
in the order of the runs, one integer finds the value of one run, and nothing else has to be stored to
find it. Measured against a primary key (key_id, rid) on 400,000 rows: inserting 0.84 against 1.19 us of
CPU a row, 25 against 44 bytes.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 2

# sections of the key table
METRIC: Final = 0
PARAM: Final = 1
TAG: Final = 2

SHIFT: Final = 32
LAST_RID: Final = (1 << SHIFT) - 1

TABLES: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE damage (run_id TEXT PRIMARY KEY, message TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (key_id INTEGER PRIMARY KEY, section INTEGER NOT NULL, key TEXT NOT NULL,
                   UNIQUE (section, key));
CREATE TABLE experiment_rows (experiment_id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
-- What queries look at run by run, so it is narrow. `position` orders runs: ids that carry their time, and
-- start times before those that do not. `tail` is the end of the id, backwards: people know runs by it.
CREATE TABLE run_rows (
  rid INTEGER PRIMARY KEY, run_id TEXT NOT NULL, tail TEXT NOT NULL, position TEXT NOT NULL,
  run_name TEXT, experiment_id TEXT, status TEXT, user_id TEXT, start_time INTEGER, end_time INTEGER,
  lifecycle_stage TEXT, dirty INTEGER, parent TEXT
);
-- `record` and `folder` are object ids; `key_ids` are the ids of the run's keys as 32-bit numbers, to
-- remove its values without a search.
CREATE TABLE details (
  rid INTEGER PRIMARY KEY, record TEXT, folder TEXT, key_ids BLOB NOT NULL,
  source TEXT NOT NULL, environment TEXT NOT NULL, inputs TEXT NOT NULL
);
-- A NULL number is NaN, which SQLite cannot store. Of a metric with a single point only `last` and `step`
-- are there: `count` is NULL, and least and greatest are the last value.
CREATE TABLE metric_rows (
  id INTEGER PRIMARY KEY, last REAL, step INTEGER, count INTEGER, min REAL, max REAL
);
-- Params and tags; `num` where the text is a number that is not NaN.
CREATE TABLE text_rows (id INTEGER PRIMARY KEY, value TEXT, num REAL);
"""

INDEXES: Final = """
CREATE INDEX IF NOT EXISTS run_rows_id ON run_rows (run_id);
CREATE INDEX IF NOT EXISTS run_rows_tail ON run_rows (tail);
CREATE INDEX IF NOT EXISTS run_rows_position ON run_rows (position);
CREATE INDEX IF NOT EXISTS run_rows_name ON run_rows (run_name);
CREATE INDEX IF NOT EXISTS run_rows_parent ON run_rows (parent) WHERE parent IS NOT NULL;
"""

TAIL: Final = 8


def statements(script: str) -> list[str]:
    """Return the statements of one of the scripts above."""
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [text for part in "\n".join(lines).split(";") if (text := part.strip())]
