//! Exchanging the program under load: the next process gets the sockets themselves.
//!
//! On SIGUSR2, or asked by `kubeng upgrade`, the process starts the file that it was started from, with the same
//! arguments, and lends it its listening sockets, the admin listener and the hold
//! on the data folder over a socket pair, which is the standard input of the next
//! process. That one serves what its sources say, and then says so; only then does
//! the old one take no more connections and finish those it has. If the next one
//! ends, or is not ready in time, nothing has changed.
//!
//! ```text
//! old                                   next
//!  │ start, Begin, Ports…, Admin, Data, End ─▶ │ reads its sources, serves beside the old one
//!  │ ◀──────────────────────────────── Ready   │
//!  │ Go ─────────────────────────────────────▶ │ opens the admin listener, writes to the cluster
//!  ▼ takes no more connections, drains, ends   ▼
//! ```

mod channel;
mod desk;
mod inherit;
mod next;

pub(crate) use desk::{Desk, Outcome, address};
pub(crate) use inherit::{Before, Inherited, inherit};
pub(crate) use next::{Lent, Next, start_next};
