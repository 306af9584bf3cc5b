"""What of the store workers needs no server."""
