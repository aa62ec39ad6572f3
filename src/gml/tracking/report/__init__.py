"""Reports for people: runs side by side as Markdown, as a web page and as frames; the past; live runs.

`sections` says what differs among any number of runs, `markdown` and `page` show it, `comparison` is the
Python API. `past` finds the ledger commit of a moment (`--at`), `live` follows running trainings
(`gml ls --watch`). docs/reports.md teaches all of it.
"""
