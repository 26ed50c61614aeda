//! Bad input: what a stranger, a mistaken client, a wrong file or a power switch does to the real binary. Each case has
//! an error that names what is wrong, and a well-behaved client that is served before and after.

mod bytes;
mod client;
mod cluster;
mod connections;
mod joining;
mod moves;
mod ports;
mod process;
mod records;
mod roles;
mod starts;
mod stop;
mod voters;
