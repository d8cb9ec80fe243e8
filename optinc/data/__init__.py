"""LightningDataModules: digits, CIFAR-100, Python's documentation, text files and Wikipedia."""
