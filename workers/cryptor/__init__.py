"""The Cryptor: encryption and the fan-out to the three stores. It keeps nothing; its keyring is a file."""
