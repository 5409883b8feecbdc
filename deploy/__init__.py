"""How the platform is brought somewhere: onto this machine, into containers, into a cluster."""
