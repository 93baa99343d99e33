"""Arrays on a device: the operations of an expectation step that need a kernel, and memory."""
