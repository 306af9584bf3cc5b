"""The KeyStore: wrapped keys and their ivs in one PostgreSQL table. It can neither unwrap one nor tell whose it is."""
