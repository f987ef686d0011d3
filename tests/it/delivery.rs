//! Messages on their way out: every fault of a server ends in the state that the rules give it.

mod faults;
mod races;
mod real;
mod states;
