"""The composition root: the only place where sockets, clocks and deciding code meet."""
