"""Append-only files in which live runs keep what they logged until it is in the ledger.

A run that is being written has a directory `<journal>/<run id>/` with

- `run.log`: low-rate events (params, tags, artifacts, status), shared by all processes of the run and
  written under its lock, so that write-once params hold across processes;
- `p-<pid>-<nonce>.log`: one file a process with its metric points, whose lock the process holds for
  as long as it lives;
- `files/`: small artifacts, named by digest, on their way into git.

The format is specified in docs/format.md.
"""
