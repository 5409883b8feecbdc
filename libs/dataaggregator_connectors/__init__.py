"""The connector types that come with the platform: one file, or one package, each."""
