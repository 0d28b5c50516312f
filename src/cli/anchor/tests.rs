//! What `salus anchor` refuses before it asks anybody.
