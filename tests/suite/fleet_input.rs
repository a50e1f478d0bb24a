//! Bad input of fleets: each has a clear error and a state that shows it, and harms nobody else.

mod disk;
mod identity;
mod saved;
mod token;
