"""What people and machines read: pure functions of assessments and of tables of predictions."""
