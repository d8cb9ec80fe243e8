"""The site that ``make docs`` builds: hooks of MkDocs, links, the reference, the notebooks."""
