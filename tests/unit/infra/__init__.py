"""Tests of infrastructure that start no server: the private CA, provisioning, enrolment, what brokers are told."""
