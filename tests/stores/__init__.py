"""The store workers against real servers."""
