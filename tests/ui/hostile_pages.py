"""Texts and addresses that the tests of the pages share."""

from __future__ import annotations

HOST = "127.0.0.1:5001"
# Texts that do something where they are not escaped.
HOSTILE = (
    "<script>window.pwned = 1</script>",
    '"><img src=x onerror="window.pwned = 1">',
    "</script><script>window.pwned = 1</script>",
    "'-window.pwned-'{{ 7 * 7 }}${7 * 7}",
    "javascript:window.pwned=1",
    "\u202egnp.exe\u2066\x1b[31m",
)
