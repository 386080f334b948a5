"""The machines of a cluster: hosts, launches, what a run needs, credentials."""
