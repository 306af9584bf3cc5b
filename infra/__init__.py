"""How a vault is set up and run: certificates, broker definitions, schemas, the one-machine stack, enrolment."""
