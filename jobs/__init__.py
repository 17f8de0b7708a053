"""Entry points: the `marc` command and the modules for `ray job submit`."""
