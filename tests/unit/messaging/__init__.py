"""Tests of messaging that need no broker."""
