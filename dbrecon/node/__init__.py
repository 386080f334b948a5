"""One machine at work: its scheduler, worker processes, memory, and the socket through which it is talked to."""
