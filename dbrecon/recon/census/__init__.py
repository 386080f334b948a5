"""What a census counts: kinds of person, tables as data, geography."""
