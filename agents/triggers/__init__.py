"""What starts jobs where no person does, and what tells others of what happened."""
