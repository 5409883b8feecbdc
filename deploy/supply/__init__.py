"""Supply chain: what the product is made of, and that no secret is among what is handed on."""
