"""`python -m gml` is the command line."""

from gml.cli.main import main

if __name__ == "__main__":
    main()
