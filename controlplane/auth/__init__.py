"""Who may do what: certificates and identities, rights of agents, tokens of the admin port."""
