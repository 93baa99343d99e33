"""Commands: parse, check, call one engine function, return an exit code."""
