"""The command line: one module a subcommand; each imports what it needs when it runs."""
