"""What a RabbitMQ node is told: definitions and configuration, rendered from `contracts.topology`."""
