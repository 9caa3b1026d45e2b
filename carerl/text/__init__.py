"""Prepares text for people: characters that a terminal can show, no secrets, one way to end a command."""
