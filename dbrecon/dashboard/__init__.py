"""The dashboard: a web page that shows how every reconstruction stands, and the API that feeds it."""
