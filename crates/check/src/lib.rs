//! Operation histories and the named safety checkers
