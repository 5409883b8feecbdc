"""Checks a definition before anything runs: names, graph, expressions; gives the plan or every wrong field."""
