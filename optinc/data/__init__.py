"""LightningDataModules: digits and CIFAR-100, Python's own documentation and local text files."""
