"""The one entry: python run.py --help."""

from optinc.tasks.main import main

if __name__ == "__main__":
    main()
