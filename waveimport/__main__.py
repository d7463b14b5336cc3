"""`python -m waveimport` is the command `waveimport`."""

from waveimport.cli.main import main

if __name__ == "__main__":
    main()
