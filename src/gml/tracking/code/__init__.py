"""Questions to runs that the history of the code answers: selection, history, bisect, blame.

The rules are written down for users in docs/code.md.
"""
