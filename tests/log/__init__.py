"""The promises of the log, one file each."""
