"""Bad input of every kind: refused with a code and a reason, nothing lost and nothing stuck."""
