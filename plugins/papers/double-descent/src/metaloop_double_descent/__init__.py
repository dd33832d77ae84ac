"""Understanding the role of optimization in double descent (Liu and Flanigan, 2023) for metaloop."""
