"""Tests of the envelope between client and Cryptor."""
