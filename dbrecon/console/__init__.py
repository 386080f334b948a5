"""The operator's commands, a module a task. ``dbrtool.py`` puts their options together and runs the one that is asked for.

A module has ``add_options(parser)``, which adds a group of options, and ``ACTIONS``: for each action's option what does it,
a function of the parsed arguments and the settings that returns the exit code.
"""
