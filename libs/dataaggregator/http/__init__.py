"""The HTTP door: routes as data, and what every call goes through on its way to its handler and back."""
