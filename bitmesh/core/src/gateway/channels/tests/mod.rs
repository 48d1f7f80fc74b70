//! The promises of the payee, by a gateway with a disk that does what it is told.
