//! Controllers and replicas as processes of their own, as people start them, and the commands that
//! people give: how each replica is, what was changed on its machine, and what is done about it.

mod balancer;
mod controllers;
mod drift;
mod labels;
mod lines;
mod peers;
mod rig;
mod states;
mod tampered;
