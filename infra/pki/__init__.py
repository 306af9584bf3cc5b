"""A private CA: one certificate per role, per client and per server, all of them short-lived compared with the CA."""
