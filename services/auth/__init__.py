"""The auth service: who somebody is and what they may do, kept in the Postgres schema `auth`."""

SERVICE = "auth"
SCHEMA = "auth"
