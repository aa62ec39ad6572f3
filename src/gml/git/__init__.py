"""The port to git and its engines; the only room that imports pygit2 and dulwich or starts git."""
