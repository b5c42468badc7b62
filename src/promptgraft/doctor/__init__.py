"""What is wrong with a prompt, a library, a finished run, or the installation; `tasks.diagnosis` does it for data."""
