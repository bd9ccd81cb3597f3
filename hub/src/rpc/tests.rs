//! Over real TLS on loopback.
