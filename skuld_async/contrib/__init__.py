"""Other packages: one file for each, named after it. Nothing of the library needs them."""
