"""The REST service and its web page: uploads become jobs, jobs become assessments, assessments reports."""
