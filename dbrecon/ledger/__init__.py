"""The one owner of an experiment's state: tables, states and transitions, claims, reports."""
