"""``python -m crystalssl`` is the command line."""

from crystalssl.cli import main

if __name__ == "__main__":
    main()
