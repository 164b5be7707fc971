"""What tests share: users, servers, clients of a service, commands, requests of relying services."""
