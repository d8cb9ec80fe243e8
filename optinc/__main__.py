"""``python -m optinc``: the ``optinc`` command."""

from optinc.tasks.main import main

if __name__ == "__main__":
    main()
