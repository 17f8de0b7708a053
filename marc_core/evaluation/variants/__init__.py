"""What is compared: ways from footage to the visual tokens that the student reads."""
