"""Tools that know nothing of the census: storage, database, command line, logs, locks."""
