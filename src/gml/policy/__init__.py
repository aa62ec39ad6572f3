"""Rules to verdicts, without I/O: records, the approval policy, and the decision over both."""
