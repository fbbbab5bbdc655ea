"""The demo of ops/demo: real flights, two advisors, two gates, one killed, and a report of what a gate is worth."""
