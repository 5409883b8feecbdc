"""Processes born by forking: a template has imported what they need, and each begins where an import would end."""
