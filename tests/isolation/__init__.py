"""Who may do what, tried for real: with every role's own credentials, on live servers, processes and files."""
