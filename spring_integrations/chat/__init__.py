"""Chats: templates and calls of tools."""
